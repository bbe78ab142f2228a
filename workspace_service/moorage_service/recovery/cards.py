"""A workload's card: its rows, and those that they need, as JSON beside its records.

It is written before the workload's first process starts, and again when it changes. From it alone a lost store knows again
what runs and whose it is: ids, uids, hashes of tokens and reservations stay the same. Credentials in it are sealed with the vault's key, as
they are in the store.
"""

import logging
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage_service.context import Context
from moorage_service.recovery.rows import to_json
from moorage_service.store import migrations
from moorage_service.store.tables import (
    ClusterRow,
    IdempotencyRow,
    JobRow,
    JobVersionRow,
    MemberRow,
    ProjectRow,
    ReservationRow,
    RunRow,
    Table,
    TokenRow,
    UserRow,
    WorkloadRow,
)
from moorage_spawners.launch.cards import Cards

NAME = "service"
# In the order in which rows may be written: nothing refers to what comes after it. (Environments are read from their folders.)
MODELS: tuple[type[Table], ...] = (
    UserRow, ProjectRow, MemberRow, JobRow, JobVersionRow, WorkloadRow, ReservationRow, ClusterRow, RunRow, TokenRow,
    IdempotencyRow,
)  # fmt: skip
# What workloads tell anew by themselves.
PASSING = frozenset({"report", "reported_at", "progress"})

log = logging.getLogger(__name__)


def cards_of(context: Context) -> Cards:
    return Cards(context.settings.state / "workloads")


def keep(context: Context, workload_id: str) -> None:
    """Writes the card of a live workload. Ended, or not there: nothing.

    A disk that does not take it hinders no start: what runs is in the store as well, and the next change writes the card again.
    """
    with context.database.read() as session:
        content = card_of(session, workload_id)
    if content is None:
        return
    try:
        cards_of(context).keep(workload_id, NAME, content)
    except OSError as error:
        log.warning("the card of %s can't be written: %s", workload_id, error)


def card_of(session: Session, workload_id: str) -> dict[str, Any] | None:
    workload = session.get(WorkloadRow, workload_id)
    if workload is None or workload.ended_at is not None:
        return None
    rows: dict[str, list[dict[str, Any]]] = {model.__tablename__: [] for model in MODELS}
    for row in _closure(session, workload):
        values = to_json(row, without=PASSING)
        if values not in rows[row.__tablename__]:
            rows[row.__tablename__].append(values)
    return {"schema": migrations.head(), "rows": rows}


def _closure(session: Session, workload: WorkloadRow) -> Iterator[Table]:
    """The workload's rows, and all that they refer to."""
    parent = None if workload.parent_id is None else session.get(WorkloadRow, workload.parent_id)
    if parent is not None:
        yield from _closure(session, parent)
    project = session.get_one(ProjectRow, workload.project_id)
    yield from _people(session, workload.owner_id, project.created_by)
    yield project
    member = session.get(MemberRow, (project.id, workload.owner_id))
    if member is not None:
        yield member
    yield workload
    run = session.get(RunRow, workload.id)
    if run is not None:
        job, version = session.get_one(JobRow, run.job_id), session.get_one(JobVersionRow, run.version_id)
        yield from _people(session, job.run_as, version.created_by)
        yield from (job, version, run)
    for model in (ReservationRow, ClusterRow):
        found = session.get(model, workload.id)
        if found is not None:
            yield found
    yield from session.scalars(select(TokenRow).where(TokenRow.workload_id == workload.id).order_by(TokenRow.hash))
    made_by = select(IdempotencyRow).where(IdempotencyRow.result == workload.id)
    yield from session.scalars(made_by.order_by(IdempotencyRow.key))


def _people(session: Session, *ids: str | None) -> Iterator[Table]:
    for user_id in ids:
        if user_id is not None:
            yield session.get_one(UserRow, user_id)
