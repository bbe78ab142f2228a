"""For admins: limits, users, audit."""

from typing import Annotated

import typer

from moorage import calls, wire
from moorage.cli.choices import parse_amount, parse_duration
from moorage.cli.session import command, group, session
from moorage.errors import InvalidInput
from moorage.quantities import show_amount
from moorage.wire.limits import ScopeKind

HOUR_S = 3600  # the wire counts budgets in seconds, people in hours
Why = Annotated[str | None, typer.Option(help="The reason; kept in the audit.")]


def register(app: typer.Typer) -> None:
    limits = group(app, "limits", "What users, groups and projects may hold at once (for admins).")
    command(limits, "list")(list_limits)
    command(limits, "set")(set_limit)
    command(limits, "remove")(remove_limit)
    users = group(app, "users", "Users (for admins).")
    command(users, "list")(list_users)
    command(users, "set")(set_user)
    command(users, "sign-out")(sign_out)
    command(app, "audit")(audit)
    command(app, "health")(health)


def list_limits() -> None:
    """All limits, with what is used of them."""
    now = session()
    found = now.send(calls.limits())
    now.result(found, lambda: _show_limits(found))


def _show_limits(found: list[wire.Limit]) -> None:
    session().table(
        ["RULE", "USED", "OF", "ID"],
        [(one.text, _show(one, one.used), _show(one, one.amount), one.id) for one in found],
        empty="There are no limits but the machine itself. Set one: moorage limits set cpu 4 --everyone",
    )


def _show(limit: wire.Limit, amount: float) -> str:
    """A budget is counted in resource-seconds, and shown in hours."""
    if limit.window_s is None:
        return show_amount(limit.resource, amount)
    return f"{show_amount(limit.resource, amount / HOUR_S)}-hours"


def set_limit(
    resource: Annotated[str, typer.Argument(help="cpu, memory, gpu, gpu:TYPE, notebooks, clusters or runs.")],
    amount: Annotated[str, typer.Argument(help="Such as 2, or 8GiB for memory.")],
    everyone: Annotated[bool, typer.Option("--everyone", help="For every user.")] = False,
    user: Annotated[str | None, typer.Option(help="For one user.")] = None,
    of_group: Annotated[str | None, typer.Option("--group", help="For a group's members.")] = None,
    project: Annotated[str | None, typer.Option(help="For a project's members, in it.")] = None,
    machine: Annotated[bool, typer.Option("--machine", help="For all workloads together.")] = False,
    pool: Annotated[
        bool, typer.Option("--pool", help="One amount shared by all, instead of the amount for each.")
    ] = False,
    window: Annotated[
        str | None, typer.Option(help="A budget in hours, used within this time: cpu 10 in 7d is 10 cpu-hours.")
    ] = None,
    why: Why = None,
) -> None:
    """Set a limit; the same rule again changes its amount. Lowering one never ends what runs."""
    chosen: list[tuple[ScopeKind, str | None]] = []
    chosen += [("everyone", None)] if everyone else []
    chosen += [("machine", None)] if machine else []
    chosen += [("user", user)] if user else []
    chosen += [("group", of_group)] if of_group else []
    chosen += [("project", project)] if project else []
    if len(chosen) != 1:
        raise InvalidInput("Say for whom, once: --everyone, --user NAME, --group NAME, --project SLUG or --machine.")
    scope, name = chosen[0]
    request = wire.LimitRequest(
        scope=scope,
        name=name,
        sharing="pool" if pool or machine else "each",
        resource=resource,
        amount=parse_amount(resource, amount) * (1 if window is None else HOUR_S),
        window_s=None if window is None else parse_duration(window, "window"),
        why=why,
    )
    now = session()
    made = now.send(calls.create_limit(request))
    now.result(made, lambda: now.say(f"Set: {made.text or resource} (id {made.id})"))


def remove_limit(limit_id: Annotated[str, typer.Argument(metavar="ID")], why: Why = None) -> None:
    """Remove a limit."""
    now = session()
    now.send(calls.remove_limit(limit_id, why))
    now.done(f"Limit {limit_id} is removed.", id=limit_id)


def list_users() -> None:
    """All users that have been here."""
    now = session()
    found = now.send(calls.users())
    now.result(
        found,
        lambda: now.table(
            ["NAME", "ADMIN", "ACTIVE", "GROUPS", "UID"],
            [
                (one.name, "yes" if one.admin else "no", "yes" if one.active else "no", ", ".join(one.groups), one.uid)
                for one in found
            ],
            empty="Nobody has signed in yet.",
        ),
    )


def set_user(
    name: str,
    uid: Annotated[int | None, typer.Option(help="Run this user's work under this account of the machine.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="May sign in and start anything.")] = None,
    why: Why = None,
) -> None:
    """Map a user to an account, or shut them out."""
    changes: dict[str, object] = {}
    if uid is not None:
        changes["uid"] = uid
    if active is not None:
        changes["active"] = active
    if not changes:
        raise InvalidInput("Nothing to change. Give --uid NUMBER, --active or --inactive.")
    now = session()
    made = now.send(calls.change_user(name, changes if why is None else {**changes, "why": why}))
    now.result(made, lambda: now.say(f"Changed {made.name}."))


def sign_out(name: str, why: Why = None) -> None:
    """End all of a user's sessions, in every browser, and the tokens they made. What runs goes on."""
    now = session()
    now.send(calls.sign_out(name, why))
    now.done(f"{name} is signed out everywhere.", user=name)


def audit(
    most: Annotated[int, typer.Option("--most", "-n", help="How many entries.")] = 50,
    actor: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, or all of a kind: limit, user, workload.")] = None,
    target: Annotated[str | None, typer.Option(help="Only of what has this in its name.")] = None,
    older_than: Annotated[int | None, typer.Option(help="Only before the entry with this id.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
) -> None:
    """Who changed what, newest first (for admins)."""
    now = session()
    asked = calls.audit(most, actor=actor, action=action, target=target, older_than=older_than)
    if csv:
        return now.sheet(asked)
    found = now.send(asked)
    return now.result(
        found,
        lambda: now.table(
            ["ID", "AT", "WHO", "WHAT", "ON", "BEFORE", "AFTER", "WHY"],
            [
                (one.id, one.at, one.actor, one.action, one.target, _facts(one.before), _facts(one.after), one.why)
                for one in found
            ],
            empty="Nothing was changed yet." if not (actor or action or target) else "No entry is like that.",
        ),
    )


def _facts(found: dict[str, object] | None) -> str | None:
    """ "amount: 2", one a line."""
    return None if found is None else "\n".join(f"{name}: {value}" for name, value in found.items())


def health() -> None:
    """How Moorage is: parts, loops, disks, and what to see to (for admins). Exit status 1 when there is something."""
    now = session()
    found = now.send(calls.health())
    now.result(found, lambda: _show_health(found))
    if found.warnings:
        raise typer.Exit(1)


def _show_health(found: wire.Health) -> None:
    now = session()
    now.table(
        ["PART", "STATE", "SAYS", "VERSION"],
        [(part.name, "well" if part.ok else "in trouble", part.says, part.version or "") for part in found.parts],
        empty="",
    )
    for warning in found.warnings:
        now.say(warning)
