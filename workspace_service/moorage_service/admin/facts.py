"""What the invariants are judged by: the store's rows and what the machine shows, gathered at one moment.

Processes are looked at before and after the store, so that what starts or ends between the looks is no finding; what is still
suspicious is looked at again (`check.examine`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from moorage_service.context import Context
from moorage_service.jobs.conclusion import SPOOL
from moorage_service.quarantine import unreadable
from moorage_service.settings import Settings
from moorage_service.store.chunks import rows_among
from moorage_service.store.tables import (
    AuditRow,
    BuildRow,
    ClusterRow,
    EventRow,
    IdempotencyRow,
    JobRow,
    LeaseRow,
    LimitRow,
    QuarantineRow,
    ReservationRow,
    RunRow,
    Table,
    TokenRow,
    UserRow,
    WorkloadRow,
)
from moorage_spawners.launch import Observation

LOOK_BACK = timedelta(days=30)
Row = TypeVar("Row", bound=Table)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Rows are detached. Ended workloads only as far back as `LOOK_BACK`; live ones all."""

    now: datetime
    settings: Settings
    capacity: dict[str, int]
    workloads: dict[str, WorkloadRow]
    clusters: dict[str, ClusterRow]
    runs: dict[str, RunRow]
    reservations: dict[str, ReservationRow]
    told: dict[str, datetime]  # workload -> when its history last grew
    users: dict[str, UserRow]
    jobs: list[JobRow]
    builds: list[BuildRow]
    limits: list[LimitRow]
    audit: list[AuditRow]
    tokens: list[TokenRow]
    created: list[IdempotencyRow]
    leases: list[LeaseRow]
    quarantine: list[QuarantineRow]
    odd: dict[str, str]  # records that can't be read: key -> why
    known: frozenset[str]  # of what was observed or lies about: the workloads that the store knows, however old
    processes: dict[str, list[Observation]]
    groups: dict[str, list[str]] = field(default_factory=dict)  # workload -> its control groups' folders
    scratch: dict[str, Path] = field(default_factory=dict)  # workload or, of a cluster, the end of its id -> folder
    unsaved: frozenset[str] = frozenset()  # ended runs whose folder there holds what could not be saved

    @property
    def live(self) -> list[WorkloadRow]:
        return [row for row in self.workloads.values() if row.ended_at is None]

    def running(self, workload_id: str) -> list[Observation]:
        return [seen for seen in self.processes.get(workload_id, ()) if not seen.gone]

    def age_s(self, moment: datetime) -> float:
        return (self.now - moment).total_seconds()


def gather(context: Context) -> Facts:
    """Raises SQLAlchemyError when the store can't be read."""
    before = _observed(context)
    scratch = _scratch(context.settings)
    groups = context.machine.groups()
    with context.database.read() as session:
        now = context.clock()
        recent = or_(WorkloadRow.ended_at.is_(None), WorkloadRow.ended_at > now - LOOK_BACK)
        ids = select(WorkloadRow.id).where(recent)
        workloads = {row.id: row for row in session.scalars(select(WorkloadRow).where(recent))}
        rows = Facts(
            now=now,
            settings=context.settings,
            capacity=dict(context.capacity.amounts),
            workloads=workloads,
            clusters={
                row.workload_id: row
                for row in _all(
                    session, ClusterRow, or_(ClusterRow.workload_id.in_(ids), ClusterRow.port_block.is_not(None))
                )
            },
            runs={row.workload_id: row for row in _all(session, RunRow, RunRow.workload_id.in_(ids))},
            reservations={
                row.workload_id: row
                for row in _all(
                    session,
                    ReservationRow,
                    or_(ReservationRow.workload_id.in_(ids), ReservationRow.released_at.is_(None)),
                )
            },
            told=_told(session, ids),
            users={row.id: row for row in _all(session, UserRow)},
            jobs=_all(session, JobRow),
            builds=_all(session, BuildRow),
            limits=_all(session, LimitRow),
            audit=list(session.scalars(select(AuditRow).order_by(AuditRow.id))),
            tokens=_all(session, TokenRow),
            created=_all(session, IdempotencyRow),
            leases=_all(session, LeaseRow),
            quarantine=_all(session, QuarantineRow),
            odd=dict(unreadable(session)),
            known=frozenset(workloads) | _known(session, {*before, *groups, *scratch}),
            processes={},
            groups=groups,
            scratch=scratch,
            unsaved=_unsaved(session, scratch),
        )
    after = _observed(context)
    # What started or ended between the two looks is not suspicious yet.
    return replace(rows, processes={key: after[key] for key in after if key in before})


def _all(session: Session, kind: type[Row], *which: ColumnElement[bool]) -> list[Row]:
    return list(session.scalars(select(kind).where(*which)))


def _known(session: Session, ids: Iterable[str]) -> set[str]:
    return {row.id for row in rows_among(session, select(WorkloadRow.id), WorkloadRow.id, ids)}


def _unsaved(session: Session, scratch: Iterable[str]) -> frozenset[str]:
    runs = [name for name in scratch if name.startswith("run-")]
    query = select(WorkloadRow.id, WorkloadRow.details).where(WorkloadRow.ended_at.is_not(None))
    return frozenset(row.id for row in rows_among(session, query, WorkloadRow.id, runs) if SPOOL in row.details)


def _told(session: Session, ids: Select[str]) -> dict[str, datetime]:
    rows = session.execute(
        select(EventRow.workload_id, func.max(EventRow.at))
        .where(EventRow.workload_id.in_(ids))
        .group_by(EventRow.workload_id)
    )
    return {row[0]: row[1] for row in rows}


def _observed(context: Context) -> dict[str, list[Observation]]:
    found: dict[str, list[Observation]] = {}
    for seen in context.processes.observe_all():
        found.setdefault(seen.workload_id, []).append(seen)
    return found


def _scratch(settings: Settings) -> dict[str, Path]:
    """Working folders of clusters and runs; those of builds are the builder's to sweep."""
    folder = settings.state / "scratch"
    return {
        path.name: path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_dir() and not path.is_symlink() and not path.name.startswith((".", "build-"))
    }
