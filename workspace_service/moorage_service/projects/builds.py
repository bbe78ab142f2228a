"""Builds of environments: queued here, carried out one after another by `builder`."""

import os
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moorage.wire import Build
from moorage_service.clock import optional_text
from moorage_service.errors import NotFound
from moorage_service.identity.callers import Caller
from moorage_service.projects.access import find_project
from moorage_service.settings import Settings
from moorage_service.store.records import shown
from moorage_service.store.tables import BuildRow, ProjectRow, UserRow

UNFINISHED = ("queued", "building")
LARGEST_READ = 1 << 20  # bytes of a log in one answer


def queue(session: Session, project: ProjectRow, *, requested_by: str | None, now: datetime) -> BuildRow:
    """A build of the present moorage.yaml; one that waits or runs for the same text is returned instead."""
    same = session.scalar(
        select(BuildRow)
        .where(
            BuildRow.project_id == project.id,
            BuildRow.state.in_(UNFINISHED),
            BuildRow.manifest == project.manifest,
        )
        .limit(1)
    )
    if same is not None:
        return same
    row = BuildRow(project_id=project.id, manifest=project.manifest, requested_by=requested_by, created_at=now)
    session.add(row)
    session.flush()
    return row


def next_in_turn(session: Session) -> str | None:
    """Of the queued builds the oldest of whoever has waited longest since a build of theirs began: many of one user's keep
    nobody else waiting for more than one of them.
    """
    queued = session.execute(
        select(BuildRow.id, BuildRow.requested_by)
        .where(BuildRow.state == "queued")
        .order_by(BuildRow.created_at, BuildRow.id)
    ).all()
    last = session.execute(
        select(BuildRow.requested_by, func.max(BuildRow.started_at))
        .where(BuildRow.requested_by.in_({row.requested_by for row in queued}), BuildRow.started_at.is_not(None))
        .group_by(BuildRow.requested_by)
    )
    began: dict[str | None, datetime] = {user: moment for user, moment in last if moment is not None}
    never = datetime.min.replace(tzinfo=UTC)
    turn = min(queued, key=lambda row: began.get(row.requested_by, never), default=None)  # of equals the first
    return None if turn is None else turn.id


def latest(session: Session, project: ProjectRow) -> BuildRow | None:
    query = select(BuildRow).where(BuildRow.project_id == project.id).order_by(BuildRow.created_at.desc(), BuildRow.id)
    return session.scalar(query.limit(1))


def of_project(session: Session, project: ProjectRow, most: int = 50) -> list[Build]:
    """Newest first."""
    query = select(BuildRow).where(BuildRow.project_id == project.id).order_by(BuildRow.created_at.desc(), BuildRow.id)
    return shown(session.scalars(query.limit(most)), lambda row: to_wire(session, row), lambda row: f"builds/{row.id}")


def find(session: Session, build_id: str, caller: Caller) -> BuildRow:
    """The build, if the caller is an editor of its project; a stranger learns nothing."""
    row = session.get(BuildRow, build_id)
    project = None if row is None else session.get_one(ProjectRow, row.project_id)
    missing = NotFound(f"There is no build {build_id[:80]!r} in a project of yours.")
    if row is None or project is None:
        raise missing
    try:
        find_project(session, project.slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")
    except NotFound:
        raise missing from None
    return row


def cancel(session: Session, row: BuildRow, *, now: datetime) -> None:
    """It ends here; whoever builds it sees that and stops, in whichever service it is. Ended already: nothing."""
    session.refresh(row, with_for_update=True)  # its end may be written at this moment
    if row.state in UNFINISHED:
        row.error = f"The build was cancelled{' before it began' if row.state == 'queued' else ''}."
        row.state, row.ended_at = "cancelled", now


def cancel_all(session: Session, project: ProjectRow, *, now: datetime) -> None:
    rows = session.scalars(
        select(BuildRow).where(BuildRow.project_id == project.id, BuildRow.state.in_(UNFINISHED))
    ).all()
    for row in rows:
        cancel(session, row, now=now)


def log_path(settings: Settings, build_id: str) -> Path:
    return settings.state / "logs" / "builds" / f"{build_id}.log"


def read_log(settings: Settings, build_id: str, offset: int, last: int | None = None) -> bytes:
    """At most `LARGEST_READ` bytes from `offset` on, or the `last` bytes; none when nothing is there (yet)."""
    try:
        with log_path(settings, build_id).open("rb") as file:
            file.seek(offset if last is None else max(0, file.seek(0, os.SEEK_END) - last))
            return file.read(LARGEST_READ)
    except FileNotFoundError:
        return b""


def to_wire(session: Session, row: BuildRow) -> Build:
    who = session.get(UserRow, row.requested_by) if row.requested_by else None
    return Build(
        id=row.id,
        project=session.get_one(ProjectRow, row.project_id).slug,
        state=row.state,
        digest=row.digest,
        error=row.error,
        started_at=optional_text(row.started_at),
        ended_at=optional_text(row.ended_at),
        requested_by=None if who is None else who.hub_name,
    )
