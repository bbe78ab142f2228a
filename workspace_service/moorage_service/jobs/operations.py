"""Promoting a notebook: what is checked, what makes a new version, and what a job's owner may change about it."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage import wire
from moorage_jobs import parameters as job_parameters
from moorage_jobs import promote as promotions
from moorage_jobs import snapshot
from moorage_service.context import Context
from moorage_service.errors import BadRequest, Conflict, Forbidden
from moorage_service.identity import idempotency
from moorage_service.identity.callers import Caller
from moorage_service.identity.rates import Action
from moorage_service.jobs import access, own_cluster, schedules
from moorage_service.jobs.problems import as_service_errors
from moorage_service.ledger.resources import of_size
from moorage_service.projects.access import find_project
from moorage_service.settings import Settings
from moorage_service.store.locks import lock
from moorage_service.store.tables import (
    JobRow,
    JobVersionRow,
    ProjectRow,
    RunRow,
    SecretRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from moorage_spawners.launch.crash_points import reach

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}\Z")
_LONGEST_S = 7 * 86400


def snapshots(settings: Settings) -> snapshot.SnapshotStore:
    return snapshot.SnapshotStore(settings.state / "snapshots" / "sources")


@dataclass(frozen=True)
class Promotion:
    """A request that was found good: what a version of it would pin."""

    name: str
    source: promotions.Source
    digest: str
    parameters: list[wire.Parameter]
    size: wire.Size
    request: wire.PromoteRequest

    def pins(self, environment: str, cluster: wire.ClusterSpec | None) -> dict[str, Any]:
        """What makes a version another one, as its row has it."""
        request = self.request
        return {
            "notebook": self.source.notebook,
            "files": sorted(self.source.files),
            "source": self.digest,
            "environment": environment,
            "parameters": [asdict(one) for one in self.parameters],
            "cluster": None if cluster is None else asdict(cluster),
            "size": asdict(self.size),
            "secrets": sorted(set(request.secrets)),
            "timeout_s": request.timeout_s,
        }


def check(settings: Settings, request: wire.PromoteRequest) -> Promotion:
    """Everything about a request that can be said without the store. Raises BadRequest naming the field."""
    with as_service_errors():
        source = promotions.inspect(request.notebook, request.files)
        defaults = job_parameters.with_defaults(source.parameters, request.parameters)
        digest = snapshot.digest(source.files)
    if request.schedule is not None:
        schedules.timetable(request.schedule)
    name = request.name or source.notebook.rsplit("/", 1)[-1].removesuffix(".ipynb")
    if not _NAME.match(name):
        raise BadRequest(
            f"name: {name!r} is no name for a job. Use letters, digits, spaces, '.', '_' and '-', at most 80, and "
            f"begin with "
            "a letter or digit.",
            field="name",
        )
    if request.timeout_s is not None and not 1 <= request.timeout_s <= _LONGEST_S:
        raise BadRequest(
            f"timeout_s: {request.timeout_s} is not between 1 and {_LONGEST_S} seconds (a week).", field="timeout_s"
        )
    size = request.size or wire.Size(cpu=settings.run_size.cpu, memory=settings.run_size.memory)
    of_size(size)
    return Promotion(name, source, digest, defaults, size, request)


def inspect(context: Context, caller: Caller, request: wire.PromoteRequest) -> wire.Inspection:
    """What promoting this would make; writes nothing."""
    context.platform.require_jobs()
    promotion = check(context.settings, request)
    with context.database.read() as session:
        project = _project(session, caller, request)
        cluster = _cluster(session, context, project, promotion)
        job = _job_named(session, project, promotion.name)
        active = None if job is None else active_version(session, job)
        changed = active is None or not _same(active, promotion.pins(_environment(project), cluster))
    return wire.Inspection(
        name=promotion.name,
        notebook=promotion.source.notebook,
        files=sorted(promotion.source.files),
        parameters=promotion.parameters,
        source=promotion.digest,
        new_job=job is None,
        new_version=changed,
        cluster=cluster,
        schedule=None if request.schedule is None else schedules.preview(context, request.schedule),
    )


def promote(context: Context, caller: Caller, request: wire.PromoteRequest, *, key: str | None = None) -> str:
    """Makes the job if it is new, and a version if anything that a version pins has changed; returns the job's id.

    A new version is active at once, and the former one retired. Nothing is left half made: the snapshot is kept first,
    the rest is one transaction.
    """
    context.platform.require_jobs()
    context.rates.count(Action.PROMOTE, user_id=caller.user_id, address=caller.address)
    promotion = check(context.settings, request)
    with context.database.read() as session:
        project = _project(session, caller, request)
        _cluster(session, context, project, promotion)
        _check_secrets(session, caller, project, request.secrets)
    with as_service_errors():
        snapshots(context.settings).put(promotion.source.files)
    reach("promote.stored")
    with context.database.begin() as session:
        made = idempotency.recall(session, user_id=caller.user_id, action="promote", key=key)
        if made is not None:
            return made
        project = _project(session, caller, request)
        lock(session, [f"jobs:{project.id}"])  # names and numbers of versions
        job = _job_of_promotion(session, context, caller, project, promotion.name)
        pins = promotion.pins(_environment(project), _cluster(session, context, project, promotion))
        _add_version(session, context, caller, job, pins, request.git_commit)
        if request.schedule is not None:
            schedules.put(context, job, request.schedule)
        idempotency.remember(
            session, user_id=caller.user_id, action="promote", key=key, result=job.id, clock=context.clock
        )
        reach("promote.recorded")
    reach("promote.committed")
    context.wakeup.notify()
    return job.id


def remove(context: Context, caller: Caller, job_id: str) -> None:
    """Archives the job: it fires no more, its runs are asked to end, its name is free again; history stays."""
    with context.database.begin() as session:
        job = access.find_job_to_change(session, caller, job_id)
        now = context.clock()
        access.note_change(session, caller, job, "remove", now=now, before={"schedule": job.schedule})
        for workload in going_on(session, job):
            lifecycle.ask_to_end(session, workload, now=now, reason="Its job was removed.", actor=caller.name)
        job.archived, job.schedule, job.next_fire_at = True, None, None
        job.name = f"{job.name[:80]} ({job.id})"
    context.wakeup.notify()


def active_version(session: Session, job: JobRow) -> JobVersionRow | None:
    return session.scalar(
        select(JobVersionRow).where(JobVersionRow.job_id == job.id, JobVersionRow.state == "active").limit(1)
    )


def going_on(session: Session, job: JobRow) -> list[WorkloadRow]:
    """The workloads of the job's runs that have not ended, oldest first."""
    return list(
        session.scalars(
            select(WorkloadRow)
            .join(RunRow, RunRow.workload_id == WorkloadRow.id)
            .where(RunRow.job_id == job.id, WorkloadRow.ended_at.is_(None))
            .order_by(WorkloadRow.created_at, WorkloadRow.id)
        )
    )


def _project(session: Session, caller: Caller, request: wire.PromoteRequest) -> ProjectRow:
    if request.project is not None:
        return find_project(session, request.project, user_id=caller.user_id, admin=caller.admin, at_least="editor")
    if caller.project_id is None:
        raise BadRequest("project: name the project that the job belongs to.", field="project")
    slug = session.get_one(ProjectRow, caller.project_id).slug
    return find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")


def _environment(project: ProjectRow) -> str:
    if project.environment is None:
        raise Conflict(
            f"Project {project.slug!r} has no environment yet, so a job has nothing to run in. Build it on the "
            f"project's "
            f"page or with `moorage project build {project.slug}`, then promote again.",
            code="environment_missing",
        )
    return project.environment


def _cluster(session: Session, context: Context, project: ProjectRow, promotion: Promotion) -> wire.ClusterSpec | None:
    """What each run gets: as asked, else what the notebook itself attaches to. Raises BadRequest or Conflict."""
    asked = promotion.request.cluster
    spec = asked or own_cluster.default(context.settings, project, promotion.source.engine)
    own_cluster.check(session, context, _environment(project), spec)
    return spec


def _check_secrets(session: Session, caller: Caller, project: ProjectRow, names: list[str]) -> None:
    if not names:
        return
    query = select(SecretRow.name).where(SecretRow.scope_id.in_((project.id, caller.user_id)))
    known = set(session.scalars(query))
    for name in names:
        if name not in known:
            raise BadRequest(
                f"secrets: neither you nor the project {project.slug!r} has a secret {name!r}. Write it first, under "
                "Secrets on the project's page or with `moorage secret set`.",
                field="secrets",
            )


def _job_named(session: Session, project: ProjectRow, name: str) -> JobRow | None:
    return session.scalar(select(JobRow).where(JobRow.project_id == project.id, JobRow.name == name))


def _job_of_promotion(session: Session, context: Context, caller: Caller, project: ProjectRow, name: str) -> JobRow:
    job = _job_named(session, project, name)
    if job is None:
        job = JobRow(project_id=project.id, name=name, run_as=caller.user_id, created_at=context.clock())
        session.add(job)
        session.flush()
        return job
    if job.run_as != caller.user_id:
        # A version promoted by somebody else would run with this user's secrets and under their uid.
        raise Forbidden(
            f"name: the job {name!r} of project {project.slug!r} runs as another user. Promote under another name "
            "(`--name`, or the form's field Name).",
            code="job_of_another",
        )
    return job


def _same(version: JobVersionRow, pins: dict[str, Any]) -> bool:
    return all(getattr(version, name) == value for name, value in pins.items())


def _add_version(
    session: Session, context: Context, caller: Caller, job: JobRow, pins: dict[str, Any], git_commit: str | None
) -> None:
    active = active_version(session, job)
    if active is not None:
        if _same(active, pins):
            return
        active.state = "retired"
    latest = session.scalar(
        select(JobVersionRow.number)
        .where(JobVersionRow.job_id == job.id)
        .order_by(JobVersionRow.number.desc())
        .limit(1)
    )
    session.add(
        JobVersionRow(
            job_id=job.id,
            number=(latest or 0) + 1,
            state="active",
            git_commit=git_commit,
            created_by=caller.user_id,
            created_at=context.clock(),
            **pins,
        )
    )
