"""Limits as admins set them, and who holds what."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Limit, LimitRequest, Usage
from moorage_service.errors import BadRequest, NotFound
from moorage_service.identity.audit import audit
from moorage_service.identity.callers import Caller
from moorage_service.identity.users import user_named
from moorage_service.ledger import admission
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.limits import Owner, Rule, standing
from moorage_service.ledger.resources import add, check_resource, from_units, to_units
from moorage_service.store.locks import lock
from moorage_service.store.records import shown
from moorage_service.store.tables import AuditRow, LimitRow, ProjectRow, WorkloadRow
from moorage_service.workloads import operations as workloads


def set_limit(session: Session, caller: Caller, request: LimitRequest, *, now: datetime) -> LimitRow:
    """Makes the rule, or changes the amount of the same rule. Running work goes on, whatever the new amount."""
    scope_id = _scope_id(session, request)
    resource = check_resource(request.resource)
    amount = to_units(resource, request.amount)
    if request.window_s is None and resource not in ("cpu", "memory") and amount != request.amount:
        raise BadRequest(
            f"amount: {request.amount} is no number of {resource}. Give a whole number from 0 up.", field="amount"
        )
    if request.window_s is not None and not 60 <= request.window_s <= 366 * 86400:
        raise BadRequest(
            f"window_s: {request.window_s} is out of range. Give 60 seconds to 366 days.", field="window_s"
        )
    lock(session, ["limits"])
    admission.lock_limits(session)
    sharing = "pool" if request.scope == "machine" else request.sharing
    same = select(LimitRow).where(
        LimitRow.scope == request.scope, LimitRow.scope_id == scope_id if scope_id is not None else LimitRow.scope_id.is_(None),
        LimitRow.sharing == sharing, LimitRow.resource == resource,
        LimitRow.window_s == request.window_s if request.window_s is not None else LimitRow.window_s.is_(None),
    )  # fmt: skip
    row = session.scalar(same)
    before = None if row is None else {"amount": from_units(resource, row.amount)}
    if row is None:
        row = LimitRow(
            scope=request.scope,
            scope_id=scope_id,
            sharing=sharing,
            resource=resource,
            amount=amount,
            window_s=request.window_s,
            created_at=now,
        )
        session.add(row)
        session.flush()
    row.amount = amount
    audit(
        session, caller, "limit.set", admission.to_rule(session, row).words, now=now, before=before,
        after={"amount": request.amount, "limit": row.id}, why=request.why,
    )  # fmt: skip
    return row


def remove_limit(session: Session, caller: Caller, limit_id: str, *, now: datetime, why: str | None = None) -> None:
    row = session.get(LimitRow, limit_id)
    if row is None:
        raise NotFound(f"There is no limit {limit_id!r}. The limits page lists those there are.")
    words = admission.to_rule(session, row).words
    audit(
        session,
        caller,
        "limit.remove",
        words,
        now=now,
        before={"amount": from_units(row.resource, row.amount)},
        why=why,
    )
    session.delete(row)


def note_capacity(session: Session, capacity: Capacity, *, now: datetime) -> None:
    """Keeps in the audit what the machine lends from now on, when that is something else than before."""
    last = session.scalar(
        select(AuditRow).where(AuditRow.action == "capacity.set").order_by(AuditRow.id.desc()).limit(1)
    )
    lent = {resource: from_units(resource, units) for resource, units in sorted(capacity.amounts.items())}
    if last is None or last.after != lent:
        before = None if last is None else last.after
        session.add(
            AuditRow(at=now, actor="moorage", action="capacity.set", target="machine", before=before, after=lent)
        )


def list_limits(session: Session, capacity: Capacity, *, now: datetime) -> list[Limit]:
    """Every rule with what is used of it (of a rule for each member: by the member who uses the most), the machine's last."""
    held = admission.holdings(session, now=now)
    owners = {each.owner.user_id + each.owner.project_id: each.owner for each in held}

    def used(rule: Rule) -> int:
        nobody = Owner(
            user_id=rule.scope_id or "", project_id=rule.scope_id or "", groups=frozenset({rule.scope_id or ""})
        )
        return max((standing(rule, owner, held, now).used for owner in [nobody, *owners.values()]), default=0)

    def view(rule: Rule) -> Limit:
        return Limit(
            id=rule.id, scope=rule.scope, name=rule.scope_name or None, sharing=rule.sharing, resource=rule.resource,  # type: ignore[arg-type]
            amount=from_units(rule.resource, rule.amount), window_s=rule.window_s, used=from_units(rule.resource, used(rule)),
            text=rule.words,
        )  # fmt: skip

    return shown(admission.rules(session, capacity), view, lambda rule: f"limits/{rule.id}")


def usage_of(session: Session, capacity: Capacity, user_id: str, project_id: str | None, *, now: datetime) -> Usage:
    """A user's own, and what is left for them in a project."""
    rows = workloads.list_workloads(session, owner_id=user_id)
    held = admission.holdings(session, now=now)
    own = add(*(each.amounts for each in held if each.until is None and each.owner.user_id == user_id))
    return Usage(
        workloads=[workloads.to_wire(session, row) for row in rows],
        totals={name: from_units(name, units) for name, units in sorted(own.items())},
        remaining=admission.remaining(session, capacity, held, user_id, project_id, now=now),
    )


def usage_of_all(session: Session, capacity: Capacity, *, now: datetime) -> Usage:
    """Everybody's: for admins."""
    rows = session.scalars(
        select(WorkloadRow).where(WorkloadRow.ended_at.is_(None)).order_by(WorkloadRow.created_at)
    ).all()
    held = [each.amounts for each in admission.holdings(session, now=now) if each.until is None]
    return Usage(
        workloads=[workloads.to_wire(session, row) for row in rows],
        totals={name: from_units(name, units) for name, units in sorted(add(*held).items())},
        capacity={name: from_units(name, units) for name, units in sorted(capacity.amounts.items())},
    )


def _scope_id(session: Session, request: LimitRequest) -> str | None:
    if request.scope in ("everyone", "machine"):
        if request.name is not None:
            raise BadRequest(f"name: a limit on {request.scope} takes no name. Leave it out.", field="name")
        return None
    if not request.name:
        raise BadRequest(f"name: say which {request.scope} the limit is for.", field="name")
    if request.scope == "user":
        return user_named(session, request.name).id
    if request.scope == "project":
        project = session.scalar(select(ProjectRow).where(ProjectRow.slug == request.name))
        if project is None:
            raise NotFound(f"There is no project {request.name!r}.", field="name")
        return project.id
    return request.name
