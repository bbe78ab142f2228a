"""The one way to hold resources: `admit`, in one write transaction with the workload's own row.

It locks the scopes concerned in sorted order, sums the live reservations, and writes a reservation only if every limit that applies leaves
room; else it raises `LimitRefused`, and the transaction, the workload's row with it, is rolled back. A reservation is released only
when its workload is observed gone; one that was never bound to a start lapses with its lease.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from moorage.wire import Holder, Refusal, Remaining, WorkloadKind
from moorage_service.errors import LimitRefused
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.limits import Held, Owner, Rule, Standing, refuses, standings
from moorage_service.ledger.resources import COUNTED, Amounts, add, from_units, in_words
from moorage_service.store.tables import (
    LimitRow,
    ProjectRow,
    ReservationRow,
    ScopeRow,
    UserRow,
    WorkloadRow,
)


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
    asked = add(amounts, {COUNTED[WorkloadKind(workload.kind)]: 1})
    _lock(session, owner)
    held = holdings(session, now=now)
    gpus = _lease_gpus(session, capacity, asked)
    found = [each for each in standings(rules(session, capacity), owner, held, now) if refuses(each, asked)]
    if found:
        # The tightest first: what must change the most before this fits.
        worst = min(found, key=lambda each: each.left / max(1, asked[each.rule.resource]))
        raise LimitRefused(refusal(worst, asked, owner, workload, show_others=show_others))
    for device in gpus:
        kind = f"gpu:{capacity.gpus[device]}"
        asked.setdefault(kind, sum(1 for other in gpus if capacity.gpus[other] == capacity.gpus[device]))
    session.flush()
    reservation = ReservationRow(
        workload_id=workload.id, user_id=workload.owner_id, project_id=workload.project_id, amounts=dict(asked), gpus=gpus,
        lease_expires_at=now + timedelta(seconds=lease_s), created_at=now,
    )  # fmt: skip
    session.add(reservation)
    return reservation


def bind(session: Session, workload_id: str) -> None:
    """The workload started: its reservation no longer lapses. Already bound or released: nothing."""
    reservation = session.get(ReservationRow, workload_id)
    if reservation is not None and reservation.released_at is None:
        reservation.bound = True


def release(session: Session, workload_id: str, *, now: datetime) -> None:
    """Call only when nothing of the workload is observed any more. Already released: nothing."""
    reservation = session.get(ReservationRow, workload_id)
    if reservation is not None and reservation.released_at is None:
        reservation.released_at = now


def leased_gpus(session: Session, workload_id: str) -> list[str]:
    reservation = session.get(ReservationRow, workload_id)
    return [] if reservation is None else list(reservation.gpus)


def remaining(
    session: Session, capacity: Capacity, user_id: str, project_id: str | None, *, now: datetime
) -> list[Remaining]:
    """What is left of each limited resource for this user in this project, under the tightest rule."""
    owner = owner_of(session, user_id, project_id or "")
    tightest: dict[str, Standing] = {}
    for each in standings(rules(session, capacity), owner, holdings(session, now=now), now):
        known = tightest.get(each.rule.resource)
        if each.rule.window_s is None and (known is None or each.left < known.left):
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
            scope_name="",
            sharing="pool",
            resource=name,
            amount=amount,
        )
        for name, amount in sorted(capacity.amounts.items())
    ]
    return [to_rule(session, row) for row in session.scalars(select(LimitRow).order_by(LimitRow.id))] + machine


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
    """Live reservations, and ended ones as far back as the longest budget looks."""
    longest = session.scalar(
        select(LimitRow.window_s).where(LimitRow.window_s.is_not(None)).order_by(LimitRow.window_s.desc()).limit(1)
    )
    live = ReservationRow.released_at.is_(None)
    wanted = live if longest is None else or_(live, ReservationRow.released_at > now - timedelta(seconds=longest))
    found = session.execute(
        select(ReservationRow, WorkloadRow, UserRow)
        .join(WorkloadRow, WorkloadRow.id == ReservationRow.workload_id)
        .join(UserRow, UserRow.id == ReservationRow.user_id)
        .where(wanted)
        .order_by(ReservationRow.created_at)
    )
    return [
        Held(
            workload_id=workload.id, kind=workload.kind, name=workload.name, owner_name=user.hub_name,
            owner=Owner(user_id=user.id, project_id=row.project_id, groups=frozenset(user.groups)),
            amounts=row.amounts, since=row.created_at, until=row.released_at,
        )
        for row, workload, user in found
    ]  # fmt: skip


def owner_of(session: Session, user_id: str, project_id: str) -> Owner:
    user = session.get_one(UserRow, user_id)
    return Owner(user_id=user_id, project_id=project_id, groups=frozenset(user.groups))


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
    by = [f"{each.kind} {each.name} ({in_words(resource, each.amounts[resource])})" for each in visible]
    if hidden:
        by.append(f"others ({in_words(resource, hidden)})")
    wanted = asked[resource]
    if wanted > rule.amount and rule.window_s is None:
        advice = "Ask for less, or ask an admin to raise this limit."
    else:
        advice = (
            "Stop one of these, ask for less, or ask an admin to raise this limit."
            if visible
            else "Ask for less, wait, or ask an admin to raise this limit."
        )
    message = (
        f"Refused by the limit that {rule.words}: {in_words(resource, found.used)} in use"
        + (f", held by {', '.join(by)}" if by else "")
        + f"; this {workload.kind} asks for {in_words(resource, wanted)}. {advice}"
    )
    return Refusal(
        rule=rule.words, resource=resource, amount=from_units(resource, rule.amount), used=from_units(resource, found.used),
        asked=from_units(resource, wanted), held_by=holders, message=message,
    )  # fmt: skip


def _lease_gpus(session: Session, capacity: Capacity, asked: Amounts) -> list[str]:
    """Devices for what is asked: typed ones first. Too few: fewer are returned, for a rule of the machine refuses anyway."""
    taken = {
        device
        for gpus in session.scalars(select(ReservationRow.gpus).where(ReservationRow.released_at.is_(None)))
        for device in gpus
    }
    free = [device for device in capacity.gpus if device not in taken]
    leased: list[str] = []
    for resource, count in asked.items():
        if resource.startswith("gpu:"):
            leased += [device for device in free if f"gpu:{capacity.gpus[device]}" == resource][:count]
    rest = [device for device in free if device not in leased]
    return leased + rest[: max(0, asked.get("gpu", 0) - len(leased))]


def _lock(session: Session, owner: Owner) -> None:
    keys: Sequence[str] = sorted(
        {
            "everyone",
            "machine",
            f"user:{owner.user_id}",
            f"project:{owner.project_id}",
            *(f"group:{name}" for name in owner.groups),
        }
    )
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(ScopeRow).values([{"key": key} for key in keys]).on_conflict_do_nothing())
    session.scalars(select(ScopeRow).where(ScopeRow.key.in_(keys)).order_by(ScopeRow.key).with_for_update()).all()
