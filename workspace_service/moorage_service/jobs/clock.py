"""The clock of schedules: a thread that fires what is due, within a second, whether or not anyone is signed in.

A fire is claimed by a compare-and-set on the job's `next_fire_at`, in the one transaction that also writes its run:
whoever else looks at the same job finds it advanced. A crash before the commit leaves the fire due; after it, the run
is there.
`UNIQUE (job, fire time)` stands behind that. So there is no lease to expire between the claim and the run.
"""

import logging
import threading
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moorage import wire
from moorage.wire import Phase
from moorage_jobs.errors import ScheduleError
from moorage_jobs.schedule import FirePlan, overlap_choice, parse, plan_due
from moorage_service.context import Context
from moorage_service.jobs import execution, operations, runs, schedules
from moorage_service.metrics import FIRED_LATE
from moorage_service.store.tables import JobRow, RunRow
from moorage_service.workloads import lifecycle

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 15.0  # so that a clock that was set is noticed
ON_TIME = timedelta(seconds=60)


class ScheduleClock:
    """`start` and `stop` it once. Several may run, in several processes: each fire is one run's all the same."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="schedule-clock", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._context.wakeup.notify()
        self._thread.join(timeout=30)

    def _loop(self) -> None:
        tidy = False
        while not self._stopping.is_set():
            seen = self._context.wakeup.changes
            try:
                if not tidy:
                    execution.remove_leftovers(self._context)
                    tidy = True
                fire_due(self._context)
                pause = self._until_next()
            except Exception:
                log.exception("the schedule clock's pass failed")
                pause = 1.0
            self._context.wakeup.wait(seen, pause)

    def _until_next(self) -> float:
        with self._context.database.read() as session:
            due_at = session.scalar(
                select(JobRow.next_fire_at)
                .where(JobRow.next_fire_at.is_not(None), JobRow.archived.is_(False))
                .order_by(JobRow.next_fire_at)
                .limit(1)
            )
        if due_at is None:
            return LONGEST_PAUSE_S
        return min(LONGEST_PAUSE_S, max(0.0, (due_at - self._context.clock()).total_seconds()))


def fire_due(context: Context) -> int:
    """Fires every schedule that is due now; returns how many runs were made, those left out not counted.

    One that can't be fired keeps no other from firing: what went wrong with any is raised at the end.
    """
    with context.database.read() as session:
        due = list(
            session.scalars(
                select(JobRow.id)
                .where(JobRow.next_fire_at <= context.clock(), JobRow.archived.is_(False))
                .order_by(JobRow.next_fire_at)
            )
        )
    made, failures = 0, []
    for job_id in due:
        try:
            made += _fire(context, job_id)
        except IntegrityError:
            log.warning("a fire of job %s was another's; the next pass looks again", job_id)
        except Exception as error:  # noqa: BLE001 - raised below, once the others have had their turn
            error.add_note(f"while the job {job_id} was fired")
            failures.append(error)
    if made:
        context.wakeup.notify()
    if failures:
        raise ExceptionGroup("schedules that are due could not be fired", failures)
    return made


def _fire(context: Context, job_id: str) -> int:
    with context.database.begin() as session:
        job = session.get(JobRow, job_id)
        now = context.clock()
        if job is None or job.archived or job.next_fire_at is None or job.next_fire_at > now:
            return 0
        schedule = schedules.schedule_of(job)
        plan = FirePlan() if schedule is None or schedule.paused else _plan(context, job, schedule, now)
        if not _claim(session, job, plan.next_fire_at):
            return 0
        if schedule is None:
            return 0
        made = _made_before(session, job, [*plan.run, *(fire for fire, _ in plan.skipped)])
        for fire, reason in plan.skipped:
            if fire not in made:
                _record_skipped(session, job, fire, now, reason, "run.missed")
        if plan.omitted:
            log.warning("job %s: %d older missed fires are not recorded one by one", job_id, plan.omitted)
        return sum(_make_run(session, job, schedule, fire, now) for fire in plan.run if fire not in made)


def _made_before(session: Session, job: JobRow, fires: list[datetime]) -> set[datetime]:
    """Of these fires, those that have a row already: a clock that was set back comes to them again."""
    query = select(RunRow.scheduled_for).where(RunRow.job_id == job.id, RunRow.scheduled_for.in_(fires))
    return {fire for fire in session.scalars(query) if fire is not None}


def _plan(context: Context, job: JobRow, schedule: wire.Schedule, now: datetime) -> FirePlan:
    assert job.next_fire_at is not None
    try:
        table = parse(schedule.cron, schedule.timezone)
    except ScheduleError as error:  # a zone that was dropped from the machine's data: the job stands still, and says so
        log.error("job %s is not scheduled any more: %s", job.id, error)
        job.schedule = {**(job.schedule or {}), "paused": True}
        return FirePlan()
    make_up = timedelta(seconds=context.settings.schedule_grace_s)
    return plan_due(table, job.next_fire_at, now, schedule.missed, grace=ON_TIME, make_up=make_up)


def _claim(session: Session, job: JobRow, next_fire_at: datetime | None) -> bool:
    """Advances the job if nobody else has; the loser changes nothing."""
    result = session.execute(
        update(JobRow)
        .where(JobRow.id == job.id, JobRow.next_fire_at == job.next_fire_at)
        .values(next_fire_at=next_fire_at)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)
    session.refresh(job)
    return result.rowcount == 1


def _make_run(session: Session, job: JobRow, schedule: wire.Schedule, fire: datetime, now: datetime) -> int:
    version = operations.active_version(session, job)
    if version is None:
        return 0
    active = operations.going_on(session, job)
    waiting = [row for row in active if row.phase == Phase.QUEUED.value and row.details.get("waits")]
    choice, reason = overlap_choice(schedule.overlap, len(active), len(waiting))
    if choice == "skip":
        _record_skipped(session, job, fire, now, reason or "", "run.overlap")
        return 0
    if choice == "replace":
        for row in active:
            lifecycle.ask_to_end(session, row, now=now, reason="Replaced by the schedule's next run.")
    waits = choice in ("queue", "replace")
    workload = runs.add(session, job, version, now=now, trigger="schedule", scheduled_for=fire, waits=waits)
    local = fire.astimezone(parse(schedule.cron, schedule.timezone).zone)
    late = (now - fire).total_seconds()
    FIRED_LATE.observe(max(0.0, late))
    message = f"Scheduled for {local.isoformat(sep=' ', timespec='minutes')}."
    if late > ON_TIME.total_seconds():
        message += " It was missed then, and is made up for now."
    lifecycle.record(session, workload.id, "run.scheduled", message, now=now)
    return 1


def _record_skipped(session: Session, job: JobRow, fire: datetime, now: datetime, reason: str, code: str) -> None:
    """A row of history for a fire that was left out, with its reason."""
    version = operations.active_version(session, job)
    if version is None:
        return
    workload = runs.add(session, job, version, now=now, trigger="schedule", scheduled_for=fire)
    lifecycle.ended(session, workload, Phase.SKIPPED, now=now, code=code, reason=reason)
