"""Every use of an admin's rights: who, what, before, after, why. Rows are only ever added.

What one may do as oneself is the thing's own history (`events`): it is written here only when the caller's own role would not do.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage_service.context import Context
from moorage_service.identity.callers import Caller
from moorage_service.store.tables import AuditRow, UserRow, WorkloadRow
from moorage_service.store.text import storable

OPENED = "workload.open"
OPENED_AGAIN = timedelta(hours=1)  # a page that refreshes itself is opened once


def audit(
    session: Session, caller: Caller, action: str, target: str, *, now: datetime, before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None, why: str | None = None,
) -> None:  # fmt: skip
    """`why` is what the request's body says; else what its query says (`?why=`)."""
    reason = why or caller.why
    session.add(
        AuditRow(
            at=now, actor=caller.name, action=action, target=storable(target[:255]), before=before, after=after,
            why=None if reason is None else storable(reason[:2000]),
        )
    )  # fmt: skip


def audit_others(
    session: Session, caller: Caller, action: str, target: str, owner_id: str, *, now: datetime,
    before: dict[str, Any] | None = None, after: dict[str, Any] | None = None, why: str | None = None,
) -> None:  # fmt: skip
    """For what is `owner_id`'s: nothing when that is the caller."""
    if owner_id != caller.user_id:
        owner = session.get_one(UserRow, owner_id).hub_name
        audit(session, caller, action, target, now=now, before={"owner": owner, **(before or {})}, after=after, why=why)


def note_opened(context: Context, caller: Caller, workload_id: str) -> None:
    """An admin looks into somebody else's workload: its output, log or dashboard. Noted once an hour. Call it outside sessions."""
    if not caller.admin:
        return
    with context.database.read() as session:
        workload = session.get(WorkloadRow, workload_id)
        since = context.clock() - OPENED_AGAIN
        noted = select(AuditRow.id).where(
            AuditRow.actor == caller.name,
            AuditRow.action == OPENED,
            AuditRow.target == workload_id,
            AuditRow.at > since,
        )
        if workload is None or workload.owner_id == caller.user_id or session.scalar(noted.limit(1)) is not None:
            return
    with context.database.begin() as session:
        facts = {"kind": workload.kind, "name": workload.name}
        audit_others(session, caller, OPENED, workload_id, workload.owner_id, now=context.clock(), before=facts)
