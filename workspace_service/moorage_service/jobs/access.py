"""Who sees a job and who may act on it.

A job runs as one user, with that user's secrets, uid and limits. So only they may change what it runs; an admin may
pause, start and remove it, too. Members of the project see that it is there and what it does, not its runs.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from moorage_service.errors import Forbidden, NotFound
from moorage_service.identity.audit import audit_others
from moorage_service.identity.callers import Caller
from moorage_service.projects.access import find_project
from moorage_service.store.tables import JobRow, MemberRow, ProjectRow


def find_job(session: Session, caller: Caller, job_id: str) -> JobRow:
    """The job, if the caller may see it; else NotFound."""
    job = session.get(JobRow, job_id)
    if job is None or job.archived or not _may_see(session, caller, job):
        raise NotFound(f"There is no job {job_id!r} that you may see.", field="job")
    return job


def find_job_to_change(session: Session, caller: Caller, job_id: str) -> JobRow:
    """The job, if the caller may start, schedule or remove it. Raises NotFound or Forbidden."""
    job = find_job(session, caller, job_id)
    if job.run_as != caller.user_id and not caller.admin:
        raise Forbidden(
            f"The job {job.name!r} runs as another user, so only they or an admin may start, schedule or remove it. "
            "Promote the notebook under a name of your own."
        )
    return job


def note_change(
    session: Session, caller: Caller, job: JobRow, action: str, *, now: datetime,
    before: dict[str, Any] | None = None, after: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """What an admin does about a job that runs as somebody else goes into the audit."""
    facts = {"job": job.name, **(before or {})}
    audit_others(session, caller, f"job.{action}", job.id, job.run_as, now=now, before=facts, after=after)


def require_editor(session: Session, caller: Caller, job: JobRow) -> ProjectRow:
    """The job's project, if the caller may still run things in it."""
    project = session.get_one(ProjectRow, job.project_id)
    return find_project(session, project.slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")


def visible_jobs(session: Session, caller: Caller, project: ProjectRow | None) -> list[JobRow]:
    """By name: the caller's own, and those of projects that they are a member of; all for an admin."""
    query = select(JobRow).where(JobRow.archived.is_(False)).order_by(JobRow.name, JobRow.id)
    if project is not None:
        query = query.where(JobRow.project_id == project.id)
    if not caller.admin:
        mine = select(MemberRow.project_id).where(MemberRow.user_id == caller.user_id)
        query = query.where(or_(JobRow.run_as == caller.user_id, JobRow.project_id.in_(mine)))
    return list(session.scalars(query))


def _may_see(session: Session, caller: Caller, job: JobRow) -> bool:
    if caller.admin or job.run_as == caller.user_id:
        return True
    # Being allowed to work in a project that is open to all makes nobody a reader of others' jobs.
    return session.get(MemberRow, (job.project_id, caller.user_id)) is not None
