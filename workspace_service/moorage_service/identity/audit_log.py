"""The audit as it is read: newest first, by who, what and of what, a page at a time."""

from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from moorage.wire import AuditEntry
from moorage_service.clock import to_text
from moorage_service.context import Context
from moorage_service.store.records import shown
from moorage_service.store.tables import AuditRow

MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """`action`: one, or all that begin with it ("limit": "limit.set", "limit.remove"). `target`: a part of it, in any case."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    older_than: int | None = None  # an entry's id
    most: int = 200


def read(session: Session, wanted: Wanted) -> list[AuditEntry]:
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(wanted.most)
    if wanted.actor:
        query = query.where(AuditRow.actor == wanted.actor)
    if wanted.action:
        of_kind = AuditRow.action.startswith(f"{wanted.action}.", autoescape=True)
        query = query.where(or_(AuditRow.action == wanted.action, of_kind))
    if wanted.target:
        query = query.where(AuditRow.target.icontains(wanted.target, autoescape=True))
    if wanted.older_than is not None:
        query = query.where(AuditRow.id < wanted.older_than)
    return shown(session.scalars(query), _entry, lambda row: f"audit/{row.id}")


def choices(context: Context) -> tuple[list[str], list[str]]:
    """The actors and the actions that there are."""
    with context.database.read() as session:
        actors = session.scalars(select(AuditRow.actor).distinct().order_by(AuditRow.actor)).all()
        actions = session.scalars(select(AuditRow.action).distinct().order_by(AuditRow.action)).all()
    return list(actors), list(actions)


def _entry(row: AuditRow) -> AuditEntry:
    before = None if row.before is None else dict(row.before)
    after = None if row.after is None else dict(row.after)
    return AuditEntry(
        id=row.id, at=to_text(row.at), actor=row.actor, action=row.action, target=row.target, before=before, after=after, why=row.why
    )  # fmt: skip
