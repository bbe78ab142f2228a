"""Every change by an admin: who, what, before, after, why. Rows are only ever added."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from moorage_service.identity.callers import Caller
from moorage_service.store.tables import AuditRow


def audit(
    session: Session, caller: Caller, action: str, target: str, *, now: datetime, before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None, why: str | None = None,
) -> None:  # fmt: skip
    session.add(AuditRow(at=now, actor=caller.name, action=action, target=target, before=before, after=after, why=why))
