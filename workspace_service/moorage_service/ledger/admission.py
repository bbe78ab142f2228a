"""The one way to hold resources: `admit`, in one write transaction with the workload's own row.

It locks the scopes concerned in sorted order, sums the live reservations, and writes a reservation only if every limit that applies leaves
room; else it raises `LimitRefused`, and the transaction, the workload's row with it, is rolled back. A reservation is released only
when its workload is observed gone; one that was never bound to a start lapses with its lease.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from moorage.wire import Holder, Refusal, Remaining, WorkloadKind
from moorage_service.errors import Conflict, LimitRefused
from moorage_service.ledger import gpus
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.limits import Held, Owner, Rule, Standing, duration, refuses, standings
from moorage_service.ledger.resources import COUNTED, Amounts, add, from_units, in_words, in_words_over_time
from moorage_service.metrics import REFUSED
from moorage_service.store.commits import around_commit
from moorage_service.store.locks import lock
from moorage_service.store.records import ODD
from moorage_service.store.tables import LimitRow, ProjectRow, ReservationRow, UserRow, WorkloadRow
from moorage_spawners.launch.crash_points import reach

SCOPES = ("everyone", "user", "group", "project", "machine")
SHARINGS = ("each", "pool")
LONGEST_WAIT = timedelta(seconds=60)  # for a lock; anything later is a clock that was set back


def admit(
    session: Session,
    capacity: Capacity,
    workload: WorkloadRow,
    amounts: Amounts,
    *,
    now: datetime,
    lease_s: float,
    show_others: bool = False,
) -> ReservationRow:
    """Reserves `amounts` (plus one of the workload's kind) for `workload`, which is in the session already.

    `show_others`: the refusal names other owners' workloads too (admins). Raises LimitRefused; nothing is written then.
    """
    owner = owner_of(session, workload.owner_id, workload.project_id)
    lock_scopes(session, owner)
    lease = check(session, capacity, workload, amounts, now=now, show_others=show_others)
    # Groups change later; what was decided stays explicable (`moorage admin check`).
    workload.details = {**workload.details, "groups": sorted(owner.groups)}
    session.flush()
    since = _after_releases(session, now)
    reservation = ReservationRow(
        workload_id=workload.id, user_id=workload.owner_id, project_id=workload.project_id, amounts=lease.amounts,
        gpus=lease.devices, lease_expires_at=now + timedelta(seconds=lease_s), created_at=since,
    )  # fmt: skip
    session.add(reservation)
    return reservation


def check(
    session: Session,
    capacity: Capacity,
    workload: WorkloadRow,
    amounts: Amounts,
    *,
    now: datetime,
    show_others: bool = False,
) -> gpus.Lease:
    """What `admit` would lease at this moment; raises as it does. Reserves nothing, and `workload` need not be in the session."""
    owner = owner_of(session, workload.owner_id, workload.project_id)
    asked = add(amounts, {COUNTED[WorkloadKind(workload.kind)]: 1})
    every = rules(session, capacity) + gpus.absent_types(capacity, asked)
    found = standings(every, owner, holdings(session, now=now), now)
    gpus.refuse_untyped(capacity, asked, found)
    lease = gpus.choose(capacity, _taken_gpus(session), asked, found)
    refusing = [each for each in found if refuses(each, lease.amounts)]
    if refusing:
        # The tightest first: what must change the most before this fits.
        worst = min(refusing, key=lambda each: each.left / max(1, lease.amounts[each.rule.resource]))
        if workload.kind != WorkloadKind.RUN.value:  # a run waits and asks again and again
            REFUSED.labels(worst.rule.id, worst.rule.resource).inc()
        raise LimitRefused(refusal(worst, lease.amounts, owner, workload, show_others=show_others))
    if len(lease.devices) < asked.get("gpu", 0) and not capacity.cluster:
        raise Conflict(
            "A GPU that should be free is still in use by a workload that ends. Try again in a few seconds.",
            code="gpu_busy",
        )
    return lease


def bind(session: Session, workload_id: str) -> None:
    """The workload started: its reservation no longer lapses. Already bound or released: nothing."""
    reservation = session.get(ReservationRow, workload_id)
    if reservation is not None and reservation.released_at is None and not reservation.bound:
        reservation.bound = True
        around_commit(session, before=lambda: reach("bind.recorded"), after=lambda: reach("bind.committed"))


def release(session: Session, workload_id: str, *, now: datetime) -> None:
    """Call only when nothing of the workload is observed any more. Already released: nothing."""
    reservation = session.get(ReservationRow, workload_id)
    if reservation is not None and reservation.released_at is None:
        reservation.released_at = now
        around_commit(session, before=lambda: reach("release.recorded"), after=lambda: reach("release.committed"))


def leased_gpus(session: Session, workload_id: str) -> list[str]:
    reservation = session.get(ReservationRow, workload_id)
    return [] if reservation is None else list(reservation.gpus)


def remaining(
    session: Session, capacity: Capacity, held: Sequence[Held], user_id: str, project_id: str | None, *, now: datetime
) -> list[Remaining]:
    """What is left of each limited resource beside what is `held`, for this user in this project, under the tightest rule.

    A budget counts once it is used up: nothing is left then, whatever may be held at once.
    """
    owner = owner_of(session, user_id, project_id or "")
    tightest: dict[str, Standing] = {}
    for each in standings(rules(session, capacity), owner, held, now):
        known = tightest.get(each.rule.resource)
        if each.rule.window_s is not None and each.left > 0:
            continue
        if known is None or each.left < known.left:
            tightest[each.rule.resource] = each
    return [
        Remaining(
            resource=name, left=from_units(name, each.left), amount=from_units(name, each.rule.amount),
            used=from_units(name, each.used), rule=each.rule.words,
        )
        for name, each in sorted(tightest.items())
    ]  # fmt: skip


def rules(session: Session, capacity: Capacity) -> list[Rule]:
    """Every rule there is: the admin's, and the machine's own capacity."""
    machine = [
        Rule(
            id=f"machine-{name}",
            scope="machine",
            scope_id=None,
            scope_name=gpus.whole(capacity),
            sharing="pool",
            resource=name,
            amount=amount,
        )
        for name, amount in sorted(capacity.amounts.items())
    ]
    # One whose scope only a newer version knows binds nobody here; it is set aside, and said (`quarantine.py`).
    known = select(LimitRow).where(LimitRow.scope.in_(SCOPES), LimitRow.sharing.in_(SHARINGS)).order_by(LimitRow.id)
    return [to_rule(session, row) for row in session.scalars(known)] + machine


def to_rule(session: Session, row: LimitRow) -> Rule:
    name = row.scope_id or ""
    if row.scope == "user":
        user = session.get(UserRow, row.scope_id)
        name = user.hub_name if user is not None else name
    elif row.scope == "project":
        project = session.get(ProjectRow, row.scope_id)
        name = project.slug if project is not None else name
    return Rule(
        id=row.id, scope=row.scope, scope_id=row.scope_id, scope_name=name, sharing=row.sharing, resource=row.resource,
        amount=row.amount, window_s=row.window_s,
    )  # fmt: skip


def holdings(session: Session, *, now: datetime) -> list[Held]:
    """Live reservations, and ended ones as far back as the longest budget looks. Columns only: every admission and most pages ask."""
    longest = session.scalar(
        select(LimitRow.window_s).where(LimitRow.window_s.is_not(None)).order_by(LimitRow.window_s.desc()).limit(1)
    )
    live = ReservationRow.released_at.is_(None)
    wanted = live if longest is None else or_(live, ReservationRow.released_at > now - timedelta(seconds=longest))
    found = session.execute(
        select(
            ReservationRow.workload_id, ReservationRow.project_id, ReservationRow.amounts, ReservationRow.created_at,
            ReservationRow.released_at, WorkloadRow.kind, WorkloadRow.name, UserRow.id.label("user_id"), UserRow.hub_name,
            UserRow.groups,
        )
        .join(WorkloadRow, WorkloadRow.id == ReservationRow.workload_id)
        .join(UserRow, UserRow.id == ReservationRow.user_id)
        .where(wanted)
        .order_by(ReservationRow.created_at)
    )  # fmt: skip
    return [
        Held(
            workload_id=row.workload_id, kind=row.kind, name=row.name, owner_name=row.hub_name,
            owner=Owner(user_id=row.user_id, project_id=row.project_id, groups=groups_of(row.groups)),
            amounts=amounts_of(row.amounts, row.kind), since=row.created_at, until=row.released_at,
        )
        for row in found
    ]  # fmt: skip


def owner_of(session: Session, user_id: str, project_id: str) -> Owner:
    user = session.get_one(UserRow, user_id)
    return Owner(user_id=user_id, project_id=project_id, groups=groups_of(user.groups))


def groups_of(column: Any) -> frozenset[str]:
    """Of a user's row. None where they can't be read: the next sign-in writes them anew."""
    with suppress(*ODD):
        return frozenset(column)
    return frozenset()


def amounts_of(column: Any, kind: str) -> Amounts:
    """Of a reservation's row: what is held. If it can't be read at least that it is one of its kind: it must not hinder all others."""
    with suppress(*ODD):
        return {str(resource): int(units) for resource, units in column.items()}
    kinds = {kind.value: counted for kind, counted in COUNTED.items()}
    return {kinds[kind]: 1} if kind in kinds else {}


def refusal(found: Standing, asked: Amounts, owner: Owner, workload: WorkloadRow, *, show_others: bool) -> Refusal:
    rule, resource = found.rule, found.rule.resource
    visible = [each for each in found.holders if show_others or each.owner.user_id == owner.user_id]
    hidden = sum(each.amounts[resource] for each in found.holders) - sum(each.amounts[resource] for each in visible)
    holders = [
        Holder(
            workload=each.workload_id, kind=each.kind, name=each.name, owner=each.owner_name,
            amount=from_units(resource, each.amounts[resource]),
        )
        for each in visible
    ]  # fmt: skip
    by = [_holder_in_words(each, resource, owner) for each in visible]
    if hidden:
        by.append(f"others ({in_words(resource, hidden)})")
    wanted = asked[resource]
    if rule.advice:
        advice = rule.advice
    elif rule.window_s is not None:
        advice = f"It frees up as the {duration(rule.window_s)} passes; or ask an admin to raise this limit."
    elif wanted > rule.amount:
        advice = "Ask for less, or ask an admin to raise this limit."
    else:
        advice = (
            "Stop one of these, ask for less, or ask an admin to raise this limit."
            if visible
            else "Ask for less, wait, or ask an admin to raise this limit."
        )
    at_once = rule.window_s is None
    use = f"{in_words(resource, found.used)} in use" if at_once else f"{in_words_over_time(resource, found.used)} used"
    message = (
        f"Refused by the limit that {rule.words}: {use}"
        + (f", held by {', '.join(by)}" if by else "")
        + f"; this {workload.kind} asks for {in_words(resource, wanted)}. {advice}"
    )
    return Refusal(
        rule=rule.words, resource=resource, amount=from_units(resource, rule.amount), used=from_units(resource, found.used),
        asked=from_units(resource, wanted), held_by=holders, message=message,
    )  # fmt: skip


def _holder_in_words(held: Held, resource: str, owner: Owner) -> str:
    whose = "" if held.owner.user_id == owner.user_id else f" of {held.owner_name}"
    return f"{held.kind} {held.name}{whose} ({in_words(resource, held.amounts[resource])})"


def _taken_gpus(session: Session) -> set[str]:
    found = session.scalars(select(ReservationRow.gpus).where(ReservationRow.released_at.is_(None)))
    taken: set[str] = set()
    for devices in found:
        with suppress(*ODD):
            taken.update(devices)
    return taken


def _after_releases(session: Session, now: datetime) -> datetime:
    """`now`, unless it was read before what this admission found released: it waited for a lock in between."""
    latest = session.scalar(select(func.max(ReservationRow.released_at)))
    waited = latest is not None and now < latest < now + LONGEST_WAIT
    return latest if waited and latest is not None else now


def lock_limits(session: Session) -> None:
    """For changes of limits: an admission sees all of such a change, or nothing of it."""
    lock(session, ["everyone", "machine"])


def lock_scopes(session: Session, owner: Owner) -> None:
    groups = [f"group:{name}" for name in owner.groups]
    lock(session, ["everyone", "machine", f"user:{owner.user_id}", f"project:{owner.project_id}", *groups])
