"""What is due becomes runs: many schedules in one transaction, for at a full hour hundreds are due at the same moment.

A fire is claimed by its job's row, locked and advanced in the one transaction that also writes the run: whoever else looks
meanwhile skips the job, or finds it advanced. A crash before the commit leaves the fire due; after it, the run is there.
`UNIQUE (job, fire time)` stands behind that. So there is no lease to expire between the claim and the run.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moorage import wire
from moorage.wire import Phase
from moorage_jobs.errors import ScheduleError
from moorage_jobs.schedule import FirePlan, Timetable, overlap_choice, parse, plan_due
from moorage_service.context import Context
from moorage_service.jobs import runs, schedules
from moorage_service.metrics import FIRED_LATE, MISSED
from moorage_service.store.tables import JobRow, JobVersionRow, QuarantineRow, RunRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch.crash_points import reach

log = logging.getLogger(__name__)

ON_TIME = timedelta(seconds=60)
AT_ONCE = 200  # schedules in one transaction: short enough that no other writer waits long


def fire_due(context: Context) -> int:
    """Fires every schedule that is due now; returns how many runs were made, those left out not counted.

    One that can't be fired keeps no other from firing: what went wrong with any is raised at the end. Where there are no jobs, as in a
    database that came from another platform, none is due.
    """
    if context.platform.no_jobs:
        return 0
    with context.database.read() as session:
        due = list(
            session.scalars(
                select(JobRow.id)
                .where(JobRow.next_fire_at <= context.clock(), JobRow.archived.is_(False), can_be_read())
                .order_by(JobRow.next_fire_at, JobRow.id)
            )
        )
    made, failures = 0, []
    for start in range(0, len(due), AT_ONCE):
        together = due[start : start + AT_ONCE]
        try:
            made += _fire(context, together)
        except Exception as error:  # noqa: BLE001 - whichever of them it was: the others must not wait for it
            if len(together) > 1:
                log.info("%d schedules could not be fired together (%s); each is fired alone", len(together), error)
            for job_id in together:
                try:
                    made += _fire(context, [job_id])
                except IntegrityError:
                    log.warning("a fire of job %s was another's; the next pass looks again", job_id)
                except Exception as alone:  # noqa: BLE001 - raised below, once the others have had their turn
                    alone.add_note(f"while the job {job_id} was fired")
                    failures.append(alone)
    if made:
        context.wakeup.notify()
    if failures:
        raise ExceptionGroup("schedules that are due could not be fired", failures)
    return made


def can_be_read() -> ColumnElement[bool]:
    """Of jobs: that they are not set aside (`quarantine.py`). A schedule that nobody can read is not tried every second."""
    aside = select(QuarantineRow.key).where(QuarantineRow.key.startswith(f"{JobRow.__tablename__}/"))
    return (f"{JobRow.__tablename__}/" + JobRow.id).not_in(aside)


def renew(context: Context) -> int:
    """Sets back what waits for a time later than its schedule's next, as after a clock that was far ahead; returns how many.

    Such a clock has advanced the schedules with it: without this, one that stood at 2036 for a minute would leave them
    silent until then. What was fired meanwhile is not fired again: its row is there.
    """
    changed = 0
    with context.database.read() as session:
        waiting = session.execute(
            select(JobRow.id, JobRow.schedule, JobRow.next_fire_at).where(
                JobRow.next_fire_at > context.clock(), JobRow.archived.is_(False)
            )
        ).all()
    for job_id, schedule, next_fire_at in waiting:
        try:
            table = parse(schedule["cron"], schedule["timezone"])
        except (ScheduleError, LookupError, TypeError, AttributeError):
            continue  # firing says so
        sooner = table.next_after(context.clock())
        if sooner is None or sooner >= next_fire_at:
            continue
        with context.database.begin() as session:
            job = session.get(JobRow, job_id, with_for_update=True)
            if job is not None and job.next_fire_at == next_fire_at:
                job.next_fire_at = sooner
                changed += 1
    if changed:
        log.warning("the clock was set back: %d schedules wait for an earlier time again", changed)
    return changed


@dataclass
class _Due:
    """One job whose time has come, with all that its fires need."""

    job: JobRow
    schedule: wire.Schedule
    table: Timetable
    plan: FirePlan
    version: JobVersionRow | None = None
    why_not: str | None = None  # whoever it runs as is disabled
    active: list[WorkloadRow] = field(default_factory=list)  # its runs that go on
    made: set[datetime] = field(default_factory=set)  # fires that have a row already

    @property
    def fires(self) -> list[datetime]:
        return [*self.plan.run, *(fire for fire, _ in self.plan.skipped)]


@dataclass(frozen=True)
class _Made:
    """The rows of a run, or of a fire that was left out."""

    workload: WorkloadRow
    run: RunRow
    code: str
    message: str


def _fire(context: Context, job_ids: Sequence[str]) -> int:
    with context.database.begin() as session:
        now = context.clock()
        claimed = list(_claim(context, session, job_ids, now))
        session.flush()
        reach("fire.claimed")
        _look_up(session, claimed)
        made = [row for due in claimed if due.version is not None for row in _rows(session, due, due.version, now)]
        session.flush()
        session.add_all([row.run for row in made])
        session.flush()
        lifecycle.record_all(session, [(row.workload.id, row.code, row.message) for row in made], now=now)
    reach("fire.committed")
    fired = [row.run.scheduled_for for row in made if row.workload.ended_at is None]
    _count(fired, left_out=len(made) - len(fired), now=context.clock())
    return len(fired)


def _count(fired: list[datetime | None], *, left_out: int, now: datetime) -> None:
    for fire in fired:
        assert fire is not None
        FIRED_LATE.observe(max(0.0, (now - fire).total_seconds()))
    MISSED.inc(left_out)


def _claim(context: Context, session: Session, job_ids: Sequence[str], now: datetime) -> Iterator[_Due]:
    """Locks those of the jobs that are still due and nobody else's, and advances them."""
    jobs = session.scalars(
        select(JobRow)
        .where(JobRow.id.in_(job_ids), JobRow.next_fire_at <= now, JobRow.archived.is_(False))
        .order_by(JobRow.next_fire_at, JobRow.id)
        .with_for_update(skip_locked=True)  # on SQLite the transaction itself is the lock
    )
    for job in jobs.all():
        schedule = schedules.schedule_of(job)
        due = None if schedule is None or schedule.paused else _plan(context, job, schedule, now)
        job.next_fire_at = None if due is None else due.plan.next_fire_at
        if due is not None:
            yield due


def _plan(context: Context, job: JobRow, schedule: wire.Schedule, now: datetime) -> _Due | None:
    assert job.next_fire_at is not None
    try:
        table = parse(schedule.cron, schedule.timezone)
    except ScheduleError as error:  # a zone that was dropped from the machine's data: the job stands still, and says so
        log.error("job %s is not scheduled any more: %s", job.id, error)
        job.schedule = {**(job.schedule or {}), "paused": True}
        return None
    make_up = timedelta(seconds=context.settings.schedule_grace_s)
    plan = plan_due(table, job.next_fire_at, now, schedule.missed, grace=ON_TIME, make_up=make_up)
    if plan.omitted:
        log.warning("job %s: %d older missed fires are not recorded one by one", job.id, plan.omitted)
    return _Due(job, schedule, table, plan)


def _look_up(session: Session, claimed: list[_Due]) -> None:
    """Versions, runs that go on, and fires that have a row already (a clock that was set back comes to them again)."""
    by_job = {due.job.id: due for due in claimed}
    fires = [fire for due in claimed for fire in due.fires]
    if not fires:
        return
    versions = select(JobVersionRow).where(JobVersionRow.job_id.in_(by_job), JobVersionRow.state == "active")
    for version in session.scalars(versions):
        by_job[version.job_id].version = version
    going_on = (
        select(RunRow.job_id, WorkloadRow)
        .join(WorkloadRow, WorkloadRow.id == RunRow.workload_id)
        .where(RunRow.job_id.in_(by_job), WorkloadRow.ended_at.is_(None))
        .order_by(WorkloadRow.created_at, WorkloadRow.id)
    )
    for job_id, workload in session.execute(going_on):
        by_job[job_id].active.append(workload)
    disabled = (
        select(JobRow.id, UserRow.hub_name)
        .join(UserRow, UserRow.id == JobRow.run_as)
        .where(JobRow.id.in_(by_job), UserRow.active.is_(False))
    )
    for job_id, name in session.execute(disabled):
        by_job[job_id].why_not = f"The user {name!r}, as whom the job runs, is disabled."
    made = select(RunRow.job_id, RunRow.scheduled_for).where(
        RunRow.job_id.in_(by_job), RunRow.scheduled_for.between(min(fires), max(fires))
    )
    for job_id, fire in session.execute(made):
        if fire is not None:
            by_job[job_id].made.add(fire)


def _rows(session: Session, due: _Due, version: JobVersionRow, now: datetime) -> Iterator[_Made]:
    for fire, reason in due.plan.skipped:
        if fire not in due.made:
            yield _left_out(session, due.job, version, fire, now, reason, "run.missed")
    for fire in due.plan.run:
        if fire not in due.made:
            yield _run_of(session, due, version, fire, now)


def _run_of(session: Session, due: _Due, version: JobVersionRow, fire: datetime, now: datetime) -> _Made:
    if due.why_not is not None:
        return _left_out(session, due.job, version, fire, now, due.why_not, "run.user-disabled")
    waiting = [row for row in due.active if row.phase == Phase.QUEUED.value and row.details.get("waits")]
    choice, reason = overlap_choice(due.schedule.overlap, len(due.active), len(waiting))
    if choice == "skip":
        return _left_out(session, due.job, version, fire, now, reason or "", "run.overlap")
    if choice == "replace":
        for row in due.active:
            lifecycle.ask_to_end(session, row, now=now, reason="Replaced by the schedule's next run.")
    waits = choice in ("queue", "replace")
    workload, run = runs.new(session, due.job, version, now=now, trigger="schedule", scheduled_for=fire, waits=waits)
    due.active.append(workload)
    local = fire.astimezone(due.table.zone)
    message = f"Scheduled for {local.isoformat(sep=' ', timespec='minutes')}."
    if now - fire > ON_TIME:
        message += " It was missed then, and is made up for now."
    return _Made(workload, run, "run.scheduled", message)


def _left_out(
    session: Session, job: JobRow, version: JobVersionRow, fire: datetime, now: datetime, reason: str, code: str
) -> _Made:
    """A row of history for a fire that was left out, with its reason."""
    workload, run = runs.new(session, job, version, now=now, trigger="schedule", scheduled_for=fire)
    lifecycle.never_begun(workload, Phase.SKIPPED, now=now, code=code, reason=reason)
    return _Made(workload, run, code, reason)
