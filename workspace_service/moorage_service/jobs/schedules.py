"""Schedules of jobs: put, removed, previewed; and the next fire that the clock waits for."""

from dataclasses import asdict

from moorage import wire
from moorage.wire import codec
from moorage_jobs import schedule as rules
from moorage_service.context import Context
from moorage_service.identity.callers import Caller
from moorage_service.jobs import access
from moorage_service.jobs.problems import as_service_errors
from moorage_service.store.tables import JobRow


def timetable(schedule: wire.Schedule) -> rules.Timetable:
    """Raises BadRequest naming the field."""
    with as_service_errors():
        return rules.parse(schedule.cron, schedule.timezone)


def preview(context: Context, schedule: wire.Schedule) -> wire.SchedulePreview:
    timetable(schedule)
    return rules.preview(schedule, context.clock())


def schedule_of(job: JobRow) -> wire.Schedule | None:
    return None if job.schedule is None else codec.parse(wire.Schedule, job.schedule)


def put(context: Context, job: JobRow, schedule: wire.Schedule) -> None:
    """Sets the job's schedule, in the caller's transaction. The same again changes nothing.

    The next fire lies after now, also for a schedule that was paused: what it left out meanwhile is not made up for.
    """
    table = timetable(schedule)
    if job.schedule == asdict(schedule):
        return
    job.schedule = asdict(schedule)
    job.next_fire_at = None if schedule.paused else table.next_after(context.clock())


def change(context: Context, caller: Caller, job_id: str, schedule: wire.Schedule | None) -> None:
    """Puts or, with None, removes the schedule of a job that the caller may change."""
    if schedule is not None:
        context.platform.require_jobs()
    with context.database.begin() as session:
        job = access.find_job_to_change(session, caller, job_id)
        before = {"schedule": job.schedule}
        if schedule is None:
            job.schedule, job.next_fire_at = None, None
        else:
            access.require_editor(session, caller, job)
            put(context, job, schedule)
        after = {"schedule": job.schedule}
        if after != before:
            access.note_change(session, caller, job, "schedule", now=context.clock(), before=before, after=after)
    context.wakeup.notify()
