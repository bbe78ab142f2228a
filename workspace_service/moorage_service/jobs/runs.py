"""Runs: made by hand or by a schedule, listed, and what their runners report."""

import json
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage import wire
from moorage.wire import Phase, WorkloadKind, codec
from moorage_jobs import parameters as job_parameters
from moorage_service.context import Context
from moorage_service.errors import BadRequest, Conflict, NotFound
from moorage_service.identity import idempotency
from moorage_service.identity.callers import Caller
from moorage_service.identity.rates import Action
from moorage_service.jobs import access, operations
from moorage_service.jobs.problems import as_service_errors
from moorage_service.store.tables import JobRow, JobVersionRow, ProjectRow, RunRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_service.workloads import operations as workloads
from moorage_spawners.launch.crash_points import reach

MOST_WAITING = 50
_MOST_CELLS = 5_000
_TEXT, _TRACE = 2_000, 20_000
_LONGEST_PARAMETERS = 64 << 10


def start(context: Context, caller: Caller, job_id: str, request: wire.RunRequest, *, key: str | None = None) -> str:
    """Makes a run of the job's active version, or of the one named, and returns its id. It waits until it is
    admitted.
    """
    context.platform.require_jobs()
    context.rates.count(Action.RUN_START, user_id=caller.user_id, address=caller.address)
    with context.database.begin() as session:
        made = idempotency.recall(session, user_id=caller.user_id, action=f"run:{job_id}", key=key)
        if made is not None:
            return made
        job = access.find_job_to_change(session, caller, job_id)
        access.require_editor(session, caller, job)
        version = _version(session, job, request.version)
        declared = [codec.parse(wire.Parameter, one) for one in version.parameters]
        _check_length(request.parameters)
        with as_service_errors():
            values = job_parameters.validate(declared, request.parameters)
        if len(operations.going_on(session, job)) >= MOST_WAITING:
            raise Conflict(
                f"{MOST_WAITING} runs of {job.name!r} are going on or waiting. Wait for one to end, or cancel some.",
                code="too_many_runs",
            )
        workload, run = new(session, job, version, now=context.clock(), trigger="manual", parameters=values)
        session.flush()
        session.add(run)
        access.note_change(session, caller, job, "run", now=context.clock(), after={"run": workload.id})
        lifecycle.record(
            session, workload.id, "run.asked", "Asked for by hand.", now=context.clock(), actor=caller.name
        )
        idempotency.remember(
            session,
            user_id=caller.user_id,
            action=f"run:{job_id}",
            key=key,
            result=workload.id,
            clock=context.clock,
        )
        session.flush()
        reach("run.recorded")
    reach("run.committed")
    context.wakeup.notify()
    return workload.id


def _check_length(parameters: dict[str, Any]) -> None:
    if len(json.dumps(parameters)) > _LONGEST_PARAMETERS:
        raise BadRequest(
            f"parameters: they are longer than {_LONGEST_PARAMETERS} bytes. Give the path of a file instead of its content.",
            field="parameters",
        )


def new(
    session: Session,
    job: JobRow,
    version: JobVersionRow,
    *,
    now: datetime,
    trigger: str,
    parameters: dict[str, Any] | None = None,
    scheduled_for: datetime | None = None,
    waits: bool = False,
) -> tuple[WorkloadRow, RunRow]:
    """A run in phase queued, its workload in the session; the run is to be added once that is flushed.

    `waits`: it starts only when every earlier run of the job has ended.
    """
    workload = lifecycle.new_workload(
        session,
        kind=WorkloadKind.RUN,
        name=job.name[:100],
        owner_id=job.run_as,
        project_id=job.project_id,
        now=now,
        phase=Phase.QUEUED,
        environment=version.environment,
        details={"size": version.size, "waits": waits},
    )
    # Defaults that the promotion overrode are passed, too: the notebook itself does not know them.
    run = RunRow(
        workload_id=workload.id,
        job_id=job.id,
        version_id=version.id,
        trigger=trigger,
        scheduled_for=scheduled_for,
        parameters=parameters or {},
    )
    return workload, run


def _version(session: Session, job: JobRow, number: int | None) -> JobVersionRow:
    query = select(JobVersionRow).where(JobVersionRow.job_id == job.id)
    query = query.where(JobVersionRow.state == "active" if number is None else JobVersionRow.number == number)
    known = number is None or 0 < number < 1 << 31  # beyond, the database has no such numbers either
    version = session.scalar(query.limit(1)) if known else None
    if version is None:
        raise BadRequest(
            f"version: the job {job.name!r} has no version {number}. Leave it out for the active one.", field="version"
        )
    return version


def rows_of(session: Session, run_id: str) -> tuple[WorkloadRow, RunRow, JobVersionRow]:
    run = session.get_one(RunRow, run_id)
    return session.get_one(WorkloadRow, run_id), run, session.get_one(JobVersionRow, run.version_id)


def find(session: Session, caller: Caller, run_id: str) -> RunRow:
    """The caller's own run, any for an admin; a run finds itself. Else NotFound."""
    workload = workloads.find_own(session, caller, run_id, kind=WorkloadKind.RUN)
    return session.get_one(RunRow, workload.id)


def listed(
    session: Session, caller: Caller, *, project: str | None = None, job: JobRow | None = None, most: int = 100
) -> list[RunRow]:
    """The caller's runs, newest first; of a job also those of others for an admin."""
    query = (
        select(RunRow)
        .join(WorkloadRow, WorkloadRow.id == RunRow.workload_id)
        .order_by(WorkloadRow.created_at.desc(), WorkloadRow.id)
        .limit(most)
    )
    if job is None or not caller.admin:
        query = query.where(WorkloadRow.owner_id == caller.user_id)
    if job is not None:
        query = query.where(RunRow.job_id == job.id)
    if project is not None:
        query = query.join(ProjectRow, ProjectRow.id == WorkloadRow.project_id).where(ProjectRow.slug == project)
    return list(session.scalars(query))


def cancel(context: Context, caller: Caller, run_id: str) -> RunRow:
    """Asks the run to end, whatever phase it is in. Ended already: nothing changes."""
    with context.database.begin() as session:
        run = find(session, caller, run_id)
        workloads.stop(session, caller, run_id, now=context.clock())
    context.wakeup.notify()
    return run


def report(context: Context, caller: Caller, run_id: str, progress: wire.RunProgress) -> None:
    """What the run's own runner says."""
    require_own(caller, run_id)
    with context.database.begin() as session:
        keep_progress(session, run_id, progress)


def keep_progress(session: Session, run_id: str, progress: wire.RunProgress) -> None:
    """Keeps a report within bounds, unless something newer is known."""
    cells = [replace(cell, source=cell.source[:200]) for cell in progress.cells[:_MOST_CELLS]]
    kept = replace(
        progress,
        cells=cells,
        error_name=(progress.error_name or "")[:200] or None,
        error_value=(progress.error_value or "")[:_TEXT] or None,
        traceback=(progress.traceback or "")[-_TRACE:] or None,
    )
    run = session.get_one(RunRow, run_id)
    if run.progress is None or run.progress.get("sequence", 0) < progress.sequence:
        # A notebook may print half a surrogate pair, which nothing can keep.
        run.progress = json.loads(json.dumps(asdict(kept), ensure_ascii=False).encode(errors="replace"))


def require_own(caller: Caller, run_id: str) -> None:
    """Only the run itself reports about itself."""
    if caller.workload_kind != WorkloadKind.RUN.value or caller.workload_id != run_id:
        raise NotFound(f"There is no run {run_id!r} of yours.")
