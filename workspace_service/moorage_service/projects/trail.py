"""What admins do about projects by their rights as admins, into the audit."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from moorage_service.identity.audit import audit
from moorage_service.identity.callers import Caller
from moorage_service.projects.access import RANK
from moorage_service.store.tables import MemberRow, ProjectRow


def note(
    session: Session, caller: Caller, project: ProjectRow, action: str, *, now: datetime, at_least: str = "editor",
    before: dict[str, Any] | None = None, after: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Nothing when the caller's own membership would have done. Call it before the change takes the membership away."""
    if not caller.admin:
        return
    member = session.get(MemberRow, (project.id, caller.user_id))
    if member is None or RANK[member.role] < RANK[at_least]:
        audit(session, caller, f"project.{action}", project.slug, now=now, before=before, after=after)
