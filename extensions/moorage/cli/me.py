"""Who am I, what do I hold, my secrets."""

import sys
from typing import Annotated

import typer

from moorage import calls, wire
from moorage.cli.choices import read_secret
from moorage.cli.session import command, group, session
from moorage.quantities import show_amount

Project = Annotated[str | None, typer.Option("--project", "-p", help="Slug of the project; else this notebook's.")]


def register(app: typer.Typer) -> None:
    command(app, "me")(me)
    command(app, "usage")(usage)
    command(app, "schema")(schema)
    secrets = group(app, "secret", "My own secrets. Values are written, never read back.")
    command(secrets, "list")(list_secrets)
    command(secrets, "set")(set_secret)
    command(secrets, "remove")(remove_secret)


def me() -> None:
    """Who the service takes me for."""
    now = session()
    found = now.send(calls.me())
    now.result(
        found,
        lambda: now.facts(
            [
                ("User", found.user.name),
                ("Admin", "yes" if found.user.admin else "no"),
                ("Groups", ", ".join(found.user.groups)),
                ("Known by", {"workload": "this notebook's token"}.get(found.via, f"{found.via} credential")),
                ("Project", now.around.project),
                ("Service", found.version),
            ]
        ),
    )


def usage(
    project: Project = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="Of all users (for admins).")] = False,
) -> None:
    """What I hold and what is left; for admins, who holds what."""
    now = session()
    found = now.send(calls.usage() if everyone else calls.my_usage(now.project(project)))
    now.result(found, lambda: _show_usage(found))


def _show_usage(found: wire.Usage) -> None:
    now = session()
    now.table(
        ["WORKLOAD", "KIND", "OWNER", "PROJECT", "PHASE", "HOLDS", "ID"],
        [(one.name, one.kind, one.owner, one.project, one.phase, holds(one), one.id) for one in found.workloads],
        empty="Nothing is held.",
    )
    if found.capacity:
        now.say("")
        now.facts(
            (
                f"{name} in use",
                f"{show_amount(name, found.totals.get(name, 0.0))} of {show_amount(name, amount)}",
            )
            for name, amount in sorted(found.capacity.items())
        )
    if found.remaining:
        now.say("")
        now.table(
            ["RESOURCE", "LEFT", "USED", "OF", "RULE"],
            [
                (
                    one.resource,
                    show_amount(one.resource, max(0.0, one.left)),
                    show_amount(one.resource, one.used),
                    show_amount(one.resource, one.amount),
                    one.rule,
                )
                for one in found.remaining
            ],
            empty="",
        )


def holds(workload: wire.Workload) -> str:
    """ "2 cores, 4 GiB"."""
    shown = (name for name in sorted(workload.holds) if name not in ("notebooks", "clusters", "runs"))
    return ", ".join(show_amount(name, workload.holds[name]) for name in shown) or "-"


def schema() -> None:
    """Where the schema of moorage.yaml is, for editors."""
    now = session()
    address = f"{now.service_url()}/moorage.schema.json"
    if now.url is None and now.around.public_url is not None:
        address = f"{now.around.public_url.rstrip('/')}/services/moorage/moorage.schema.json"
    first = f"# yaml-language-server: $schema={address}"
    now.result({"schema": address}, lambda: now.say(f"{address}\nFirst line of moorage.yaml, for editors:\n{first}"))


def list_secrets() -> None:
    """Names of my secrets."""
    now = session()
    found = now.send(calls.my_secrets())
    now.result(found, lambda: show_secrets(found, "moorage secret set NAME"))


def show_secrets(found: list[wire.Secret], example: str) -> None:
    session().table(
        ["NAME", "SCOPE", "CHANGED"],
        [(one.name, one.scope, one.updated_at) for one in found],
        empty=f"There are no secrets. Make one: {example}",
    )


def set_secret(name: str) -> None:
    """Set a secret of mine. Its value is typed unseen, or read from standard input."""
    now = session()
    now.send(calls.set_my_secret(name, read_secret(name, ask=sys.stdin.isatty())))
    now.done(f"Secret {name} is set. Notebooks, clusters and runs that start from now on see it.", name=name)


def remove_secret(name: str) -> None:
    """Remove a secret of mine."""
    now = session()
    now.send(calls.remove_my_secret(name))
    now.done(f"Secret {name} is removed.", name=name)
