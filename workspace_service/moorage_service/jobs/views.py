"""Jobs, versions and runs as the wire has them."""

from dataclasses import replace
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage import wire
from moorage.wire import codec
from moorage_jobs import schedule as schedules
from moorage_jobs.errors import ScheduleError
from moorage_service.clock import optional_text, to_text
from moorage_service.identity.callers import Caller
from moorage_service.jobs import outputs
from moorage_service.settings import Settings
from moorage_service.store.tables import JobRow, JobVersionRow, ProjectRow, RunRow, UserRow, WorkloadRow
from moorage_service.workloads import operations as workloads


def job_view(
    session: Session, settings: Settings, caller: Caller, job: JobRow, *, with_versions: bool = False
) -> wire.Job:
    """The job with its active version and, for those who may see it, its last run."""
    versions = versions_of(session, job)
    active = next((row for row in versions if row.state == "active"), None)
    schedule = None if job.schedule is None else codec.parse(wire.Schedule, job.schedule)
    last = last_run(session, job) if caller.admin or caller.user_id == job.run_as else None
    return wire.Job(
        id=job.id,
        name=job.name,
        project=session.get_one(ProjectRow, job.project_id).slug,
        stage=cast(Any, job.stage),
        run_as=session.get_one(UserRow, job.run_as).hub_name,
        schedule=schedule,
        schedule_words=None if schedule is None else _words(schedule),
        next_fire_at=optional_text(job.next_fire_at),
        version=None if active is None else version_view(session, active),
        versions=[version_view(session, row) for row in versions] if with_versions else [],
        last_run=None if last is None else run_view(session, settings, last),
    )


def _words(schedule: wire.Schedule) -> str | None:
    try:
        return schedules.parse(schedule.cron, schedule.timezone).words
    except ScheduleError:  # a time zone that this machine's data does not have any more
        return None


def versions_of(session: Session, job: JobRow) -> list[JobVersionRow]:
    """Newest first."""
    query = select(JobVersionRow).where(JobVersionRow.job_id == job.id).order_by(JobVersionRow.number.desc())
    return list(session.scalars(query))


def last_run(session: Session, job: JobRow) -> RunRow | None:
    """The newest run that was not left out by a policy."""
    return session.scalar(
        select(RunRow)
        .join(WorkloadRow, WorkloadRow.id == RunRow.workload_id)
        .where(RunRow.job_id == job.id, WorkloadRow.phase != wire.Phase.SKIPPED.value)
        .order_by(WorkloadRow.created_at.desc())
        .limit(1)
    )


def version_view(session: Session, row: JobVersionRow) -> wire.JobVersion:
    return wire.JobVersion(
        id=row.id,
        number=row.number,
        state=cast(Any, row.state),
        notebook=row.notebook,
        files=list(row.files),
        source=row.source,
        environment=row.environment,
        parameters=[codec.parse(wire.Parameter, one) for one in row.parameters],
        cluster=None if row.cluster is None else codec.parse(wire.ClusterSpec, row.cluster),
        size=codec.parse(wire.Size, row.size),
        secrets=list(row.secrets),
        timeout_s=row.timeout_s,
        git_commit=row.git_commit,
        created_by=session.get_one(UserRow, row.created_by).hub_name,
        created_at=to_text(row.created_at),
    )


def run_view(session: Session, settings: Settings, run: RunRow, *, whole: bool = False) -> wire.Run:
    """A run; `whole` adds its cells, trace and events."""
    workload = session.get_one(WorkloadRow, run.workload_id)
    progress: dict[str, Any] = run.progress or {}
    view = wire.Run(
        **workloads.common_fields(session, workload),
        job=run.job_id,
        version=session.get_one(JobVersionRow, run.version_id).number,
        trigger=cast(Any, run.trigger),
        scheduled_for=optional_text(run.scheduled_for),
        parameters=dict(run.parameters),
        cluster=run.cluster_id,
        error_name=progress.get("error_name"),
        error_value=progress.get("error_value"),
        error_cell=progress.get("error_cell"),
        exit_code=run.exit_code,
        outputs=outputs.names(settings, run.workload_id),
    )
    if not whole:
        return view
    return replace(
        view,
        cells=[codec.parse(wire.CellProgress, cell) for cell in progress.get("cells", [])],
        traceback=progress.get("traceback"),
        events=workloads.events_of(session, run.workload_id),
    )
