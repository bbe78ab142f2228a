"""Queued runs: each waits until there is room for it and its cluster, and says for what it waits.

Hundreds may wait for the same thing. So those that ask for the same are asked about once in a pass; only while there is room
for one of them is any looked at by itself.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from moorage.wire import Phase, WorkloadKind, codec
from moorage.wire.clusters import ClusterSpec
from moorage.wire.workloads import Size
from moorage_service.context import Context
from moorage_service.errors import LimitRefused, ServiceError
from moorage_service.jobs import own_cluster, runs
from moorage_service.jobs.conclusion import end_in
from moorage_service.jobs.ending import Ending
from moorage_service.ledger import admission
from moorage_service.ledger.resources import in_words, of_size
from moorage_service.metrics import ADMITTED
from moorage_service.projects.access import RANK, role_of
from moorage_service.store.chunks import rows_among
from moorage_service.store.tables import JobVersionRow, ProjectRow, RunRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch.crash_points import reach

REFUSED, WAITS = "limit.refused", "run.waits"
_AT_ONCE = 20  # of those that ask for the same, looked at in one pass: if all fit, the next pass follows at once


def admit(context: Context, run_id: str) -> None:
    """Reserves for the run and for its cluster at its maximum: both or neither."""
    try:
        with context.database.begin() as session:
            workload, run, version = runs.rows_of(session, run_id)
            if workload.phase != Phase.QUEUED.value or workload.target != "running":
                return
            now = context.clock()
            why_not = context.platform.no_jobs or may_not_run(session, workload)
            if why_not is not None:
                lifecycle.ended(session, workload, Phase.SKIPPED, now=now, code="run.not-allowed", reason=why_not)
                return
            if workload.details.get("waits") and _behind(session, run, workload):
                reason = "Waits for an earlier run of this job to end."
                lifecycle.enter(session, workload, Phase.QUEUED, now=now, code=WAITS, reason=reason)
                return
            amounts = of_size(codec.parse(Size, version.size))
            lease_s = context.settings.admission_lease_s
            admission.admit(session, context.capacity, workload, amounts, now=now, lease_s=lease_s)
            admission.bind(session, run_id)  # from here on this loop carries it: it ends in `lifecycle.ended`
            spec = None if version.cluster is None else codec.parse(ClusterSpec, version.cluster)
            holds = ", ".join(in_words(name, units) for name, units in amounts.items())
            reason = f"Admitted: it holds {holds}."
            if spec is not None:
                run.cluster_id = own_cluster.create(context, session, workload, spec)
                reason = f"Admitted: it holds {holds}, and its cluster starts."
            lifecycle.enter(session, workload, Phase.PENDING, now=now, code="run.admitted", reason=reason)
    except LimitRefused as refused:
        wait_for_room(context, [run_id], refused)
        return
    except ServiceError as error:  # its cluster cannot be made as it is asked for, now or later
        with context.database.begin() as session:
            workload, run, _ = runs.rows_of(session, run_id)
            end_in(session, context, workload, run, Ending(Phase.FAILED, "run.cluster-refused", error.message))
        context.wakeup.notify()
        return
    reach("run.admitted")
    ADMITTED.labels("run").inc()
    context.wakeup.notify()


def needy(context: Context, queued: Sequence[str]) -> Iterator[str]:
    """Of these runs, oldest first, those worth a look by themselves. Writes what the others wait for."""
    with context.database.read() as session:
        query = (
            select(
                WorkloadRow.id, WorkloadRow.owner_id, WorkloadRow.project_id, WorkloadRow.name, WorkloadRow.details,
                WorkloadRow.reason_code, WorkloadRow.reason, WorkloadRow.created_at, JobVersionRow.size, JobVersionRow.cluster,
                RunRow.job_id,
            )
            .join(RunRow, RunRow.workload_id == WorkloadRow.id)
            .join(JobVersionRow, JobVersionRow.id == RunRow.version_id)
        )  # fmt: skip
        alike: dict[str, list[Row[Any]]] = {}
        found = rows_among(session, query, WorkloadRow.id, queued)
        rows = sorted(found, key=lambda row: (row.created_at, row.id))
        first = _first_of_job(session, [row.job_id for row in rows if row.reason_code == WAITS])
        for row in rows:
            if row.reason_code == WAITS and first.get(row.job_id) != row.id:
                continue  # still behind another, and says so
            asked = json.dumps([row.owner_id, row.project_id, row.size, row.cluster], sort_keys=True)
            alike.setdefault(row.id if row.details.get("waits") else asked, []).append(row)
        refusals = [(same, _refusal(context, session, same[0])) for same in alike.values()]
    for same, refused in refusals:
        if refused is None:
            yield from (row.id for row in same[:_AT_ONCE])
        else:
            wait_for_room(context, [row.id for row in same if row.reason != _reason(refused, row.cluster)], refused)


def _first_of_job(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    """Of each job the oldest run that goes on."""
    query = (
        select(RunRow.job_id, WorkloadRow.id)
        .join(WorkloadRow, WorkloadRow.id == RunRow.workload_id)
        .where(WorkloadRow.ended_at.is_(None))
        .order_by(WorkloadRow.created_at.desc(), WorkloadRow.id.desc())
    )
    return {row.job_id: row.id for row in rows_among(session, query, RunRow.job_id, dict.fromkeys(job_ids))}


def _refusal(context: Context, session: Session, row: Row[Any]) -> LimitRefused | None:
    """Why there is no room for such a run at this moment; None when there may be, or when its step should say more."""
    workload = WorkloadRow(
        id=row.id, kind=WorkloadKind.RUN.value, name=row.name, owner_id=row.owner_id, project_id=row.project_id
    )
    try:
        if may_not_run(session, workload) is None:
            amounts = of_size(codec.parse(Size, row.size))
            admission.check(session, context.capacity, workload, amounts, now=context.clock())
    except LimitRefused as refused:
        return refused
    except (ServiceError, ValueError):
        return None
    return None


def wait_for_room(context: Context, run_ids: Sequence[str], refused: LimitRefused) -> None:
    """Notes for what they wait. Who holds what changes often, and is no line of history each time."""
    if not run_ids:
        return
    with context.database.begin() as session:
        now = context.clock()
        query = (
            select(WorkloadRow, JobVersionRow.cluster)
            .join(RunRow, RunRow.workload_id == WorkloadRow.id)
            .join(JobVersionRow, JobVersionRow.id == RunRow.version_id)
            .where(WorkloadRow.phase == Phase.QUEUED.value)
        )
        for workload, cluster in rows_among(session, query, WorkloadRow.id, run_ids):
            reason = _reason(refused, cluster)
            if workload.reason_code == REFUSED:
                workload.reason = reason
            else:
                lifecycle.enter(session, workload, Phase.QUEUED, now=now, code=REFUSED, reason=reason)


def _reason(refused: LimitRefused, cluster: object) -> str:
    wanted = "room" if cluster is None else "room for itself and its cluster together"
    return f"Waits for {wanted}. {refused.message}"


def may_not_run(session: Session, workload: WorkloadRow) -> str | None:
    """Why the run's user may not run things in its project (any more); None if they may."""
    user = session.get_one(UserRow, workload.owner_id)
    project = session.get_one(ProjectRow, workload.project_id)
    if not user.active:
        return f"The user {user.hub_name!r}, as whom the job runs, is disabled."
    role = role_of(session, user.id, project)
    if not user.admin and RANK.get(role or "", -1) < RANK["editor"]:
        return f"{user.hub_name!r}, as whom the job runs, may not run things in project {project.slug!r} any more."
    return None


def _behind(session: Session, run: RunRow, workload: WorkloadRow) -> bool:
    earlier = session.scalar(
        select(WorkloadRow.id)
        .join(RunRow, RunRow.workload_id == WorkloadRow.id)
        .where(
            RunRow.job_id == run.job_id,
            WorkloadRow.ended_at.is_(None),
            WorkloadRow.id != workload.id,
            WorkloadRow.created_at <= workload.created_at,
        )
        .limit(1)
    )
    return earlier is not None
