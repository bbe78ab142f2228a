"""Sets aside what this version can't read, each record by itself, and takes it back once it can be read again.

A pass judges the shape of every live record. One that is set aside is named in the table `quarantine` (which `moorage admin check`, the
health page and a gauge show), in the log, and in the history of its workload for the owner; loops leave it alone. A workload of a kind
that is not known here is ended, if its owner asks for it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from moorage import wire
from moorage.wire import ClusterSpec, Phase, Size, WorkloadKind, codec
from moorage_service.clusters.engines import ENGINES
from moorage_service.context import Context
from moorage_service.errors import BadRequest
from moorage_service.ledger import admission
from moorage_service.ledger.resources import check_resource
from moorage_service.store.records import ODD, words_of
from moorage_service.store.tables import (
    BuildRow,
    ClusterRow,
    JobRow,
    JobVersionRow,
    LimitRow,
    QuarantineRow,
    ReservationRow,
    RunRow,
    Table,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle

log = logging.getLogger(__name__)

KINDS = frozenset(kind.value for kind in WorkloadKind)
BUILDS = frozenset({"queued", "building", "succeeded", "failed", "cancelled"})


def sweep(context: Context) -> None:
    """One pass: what is odd now, against what was set aside."""
    with context.database.read() as session:
        odd = dict(unreadable(session))
        aside = set(session.scalars(select(QuarantineRow.key).where(QuarantineRow.reason.startswith(OURS))))
        unknown = session.scalars(
            select(WorkloadRow.id).where(
                WorkloadRow.kind.not_in(KINDS), WorkloadRow.ended_at.is_(None), WorkloadRow.target == "gone"
            )
        ).all()
    if odd.keys() != aside:
        with context.database.begin() as session:
            _set_aside(session, {key: odd[key] for key in odd.keys() - aside}, now=context.clock())
            session.execute(delete(QuarantineRow).where(QuarantineRow.key.in_(aside - odd.keys())))
    for workload_id in unknown:
        _end_unknown(context, workload_id)


OURS = "It can't be read by this version of Moorage"


def _set_aside(session: Session, odd: dict[str, str], *, now: datetime) -> None:
    for key, why in odd.items():
        log.error("%s is set aside: %s", key, why)
        reason = f"{OURS} ({why})."
        session.merge(QuarantineRow(key=key, reason=reason, since=now))
        table, _, name = key.partition("/")
        if table == WorkloadRow.__tablename__ and session.get(WorkloadRow, name) is not None:
            message = f"{reason} It is left alone; you can still stop it. An admin finds it with `moorage admin check`."
            lifecycle.record(session, name, "record.quarantined", message, now=now)


def _end_unknown(context: Context, workload_id: str) -> None:
    if not all(seen.gone for seen in context.processes.observe(workload_id)):
        context.processes.stop(workload_id, grace_s=context.settings.stop_grace_s)
        return
    with context.database.begin() as session:
        workload = session.get(WorkloadRow, workload_id)
        if workload is not None:
            reason = "Stopped by its owner; this version of Moorage does not know what it was."
            lifecycle.ended(session, workload, Phase.STOPPED, now=context.clock(), code="record.ended", reason=reason)
            cluster = session.get(ClusterRow, workload_id)
            if cluster is not None:
                cluster.port_block, cluster.sealed = None, None
    context.forget(workload_id)


def unreadable(session: Session) -> Iterator[tuple[str, str]]:
    """The key and the oddity of each live record that can't be read."""
    live = select(WorkloadRow.id).where(WorkloadRow.ended_at.is_(None))
    for model, query, judge, name in (
        (WorkloadRow, select(WorkloadRow).where(WorkloadRow.ended_at.is_(None)), _workload, "id"),
        (ClusterRow, select(ClusterRow).where(ClusterRow.workload_id.in_(live)), _cluster, "workload_id"),
        (RunRow, select(RunRow).where(RunRow.workload_id.in_(live)), _run, "workload_id"),
        (ReservationRow, select(ReservationRow).where(ReservationRow.released_at.is_(None)), _reservation, "workload_id"),
        (JobRow, select(JobRow).where(JobRow.archived.is_(False)), _job, "id"),
        (JobVersionRow, select(JobVersionRow).where(JobVersionRow.state == "active"), _version, "id"),
        (LimitRow, select(LimitRow), _limit, "id"),
        (BuildRow, select(BuildRow).where(BuildRow.ended_at.is_(None)), _build, "id"),
        (UserRow, select(UserRow), _user, "id"),
    ):  # fmt: skip
        yield from _odd(
            session.scalars(cast(Any, query)), cast(Callable[[Table], None], judge), model.__tablename__, name
        )


def _odd(rows: Iterable[Table], judge: Callable[[Table], None], table: str, name: str) -> Iterator[tuple[str, str]]:
    for row in rows:
        try:
            judge(row)
        except (*ODD, BadRequest) as error:
            # What belongs to a workload is set aside with it.
            owner = WorkloadRow.__tablename__ if name == "workload_id" else table
            yield f"{owner}/{getattr(row, name)}", words_of(error)


def _known(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"its {what} is {value!r}, which this version does not know")


def _workload(row: WorkloadRow) -> None:
    _known("kind", row.kind, KINDS)
    _known("phase", row.phase, [phase.value for phase in Phase])
    _known("target", row.target, ("running", "gone"))
    details = dict(row.details)
    if row.kind == WorkloadKind.NOTEBOOK.value:
        codec.parse(Size, details["size"])


def _cluster(row: ClusterRow) -> None:
    _known("engine", row.engine, ENGINES)
    codec.parse(ClusterSpec, row.spec)
    dict(row.scale)
    dict(row.report or {})


def _run(row: RunRow) -> None:
    dict(row.parameters)
    if row.progress is not None:
        dict(row.progress)


def _reservation(row: ReservationRow) -> None:
    for resource, units in row.amounts.items():
        if not isinstance(resource, str) or not isinstance(units, int) or units < 0:
            raise ValueError(f"it holds {units!r} {resource}")
    list(row.gpus)


def _job(row: JobRow) -> None:
    if row.schedule is not None:
        codec.parse(wire.Schedule, row.schedule)


def _version(row: JobVersionRow) -> None:
    codec.parse(Size, row.size)
    if row.cluster is not None:
        codec.parse(ClusterSpec, row.cluster)
    for parameter in row.parameters:
        codec.parse(wire.Parameter, parameter)


def _limit(row: LimitRow) -> None:
    _known("scope", row.scope, admission.SCOPES)
    _known("sharing", row.sharing, admission.SHARINGS)
    check_resource(row.resource)


def _build(row: BuildRow) -> None:
    _known("state", row.state, BUILDS)


def _user(row: UserRow) -> None:
    sorted(row.groups)
