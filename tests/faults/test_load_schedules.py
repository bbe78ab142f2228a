"""Load: thousands of schedules, of which hundreds are due at the same full minute. None is lost or made twice, and none is late.

Goal (`make faults`): of 10,000 schedules 600 due in one minute, 99 of 100 within a second from their time to their row.
"""

from datetime import UTC, datetime, timedelta
from statistics import quantiles
from threading import Thread
from time import perf_counter

from sqlalchemy import Engine, event, func, select

from moorage_service.context import Context
from moorage_service.jobs.fires import fire_due
from moorage_service.store.tables import JobRow, JobVersionRow, ProjectRow, RunRow, UserRow
from tests.fakes.clock import FakeClock
from tests.faults.checking import check
from tests.faults.figures import Report, Scale
from tests.service.conftest import Headers
from tests.service.databases import each_database

SIZE = {"cpu": 0.1, "memory": 1 << 26, "gpu": 0, "gpu_type": None}
MINUTE = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)


def add_jobs(context: Context, count: int, due: int) -> None:
    """Of `count` jobs `due` at 06:00, all others in the hours after."""
    with context.database.begin() as session:
        project = session.scalars(select(ProjectRow)).one()
        owner = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        jobs = []
        for number in range(count):
            later = timedelta(hours=1 + number % 12, minutes=number % 60)
            at = MINUTE if number < due else MINUTE + later
            schedule = {"cron": f"{at.minute} {at.hour} * * *", "timezone": "Europe/Berlin" if number % 2 else "UTC"}
            if number % 2:
                schedule["cron"] = f"{at.minute} {(at.hour + 1) % 24} * * *"  # an hour ahead of UTC in winter
            whole = {**schedule, "missed": "run_latest", "overlap": "forbid", "paused": False}
            jobs.append(
                JobRow(
                    project_id=project.id, name=f"job {number}", run_as=owner.id, schedule=whole, next_fire_at=at,
                    created_at=context.clock(),
                )
            )  # fmt: skip
        session.add_all(jobs)
        session.flush()
        session.add_all(
            JobVersionRow(
                job_id=job.id, number=1, state="active", notebook="work.ipynb", files=["work.ipynb"], source="0" * 64,
                environment=str(project.environment), parameters=[], size=SIZE, created_by=owner.id, created_at=context.clock(),
            )
            for job in jobs
        )  # fmt: skip


class Commits:
    """When each transaction of this engine was over, and how many rows of runs it had added by then."""

    def __init__(self, engine: Engine) -> None:
        self.statements = 0
        self.at: list[float] = []
        event.listen(engine, "before_cursor_execute", self._execute)
        event.listen(engine, "commit", lambda _connection: self.at.append(perf_counter()))

    def _execute(self, *_: object) -> None:
        self.statements += 1


@each_database
def test_hundreds_of_schedules_fire_in_their_minute_each_once(
    context: Context, people: dict[str, Headers], project: ProjectRow, clock: FakeClock, scale: Scale, report: Report
) -> None:
    count, due = (10_000, 600) if scale.full else (1_000, 600)
    clock.freeze(MINUTE - timedelta(seconds=30))
    add_jobs(context, count, due)
    assert fire_due(context) == 0
    clock.advance(30)
    commits = Commits(context.database.engine)
    begun = perf_counter()
    # Two services at once, as on PostgreSQL they may be.
    made: list[int] = []
    clocks = [Thread(target=lambda: made.append(fire_due(context))) for _ in range(2)]
    for each in clocks:
        each.start()
    for each in clocks:
        each.join()
    took = perf_counter() - begun
    assert fire_due(context) == 0
    with context.database.read() as session:
        rows = session.scalar(select(func.count()).select_from(RunRow))
        jobs = session.scalar(select(func.count(RunRow.job_id.distinct())))
        assert session.scalar(select(func.count()).where(JobRow.next_fire_at <= clock())) == 0
    assert (rows, jobs, sum(made)) == (due, due, due)
    assert commits.statements < due / 4, "many are claimed at once, not one by one"
    # A fire's row is there with the commit of its batch; the batches are of the same size.
    lags = [at - begun for at in commits.at if at - begun <= took] or [took]
    p99 = quantiles([*lags, took], n=100)[98]
    if scale.full:
        assert p99 < 1, f"p99 of the lag is {p99:.2f} s"
    check(context, settle_s=0)
    report(18, schedules=count, due_at_once=due, lost=0, double=0, statements=commits.statements,
           lag_p50_ms=round(1000 * quantiles([*lags, took], n=2)[0]), lag_p99_ms=round(1000 * p99))  # fmt: skip


def test_a_pass_costs_what_is_due_and_not_what_there_is(
    context: Context, people: dict[str, Headers], project: ProjectRow, clock: FakeClock, scale: Scale, report: Report
) -> None:
    clock.freeze(MINUTE)
    statements = []
    for count in (100, 1_000 if not scale.full else 10_000):
        add_jobs_named(context, count)
        commits = Commits(context.database.engine)
        assert fire_due(context) == 0
        statements.append(commits.statements)
    assert statements[0] == statements[1]
    report(18, idle_pass_statements=statements[0])


def add_jobs_named(context: Context, count: int) -> None:
    with context.database.begin() as session:
        project = session.scalars(select(ProjectRow)).one()
        owner = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        session.add_all(
            JobRow(
                project_id=project.id, name=f"{count} {number}", run_as=owner.id, schedule={"cron": "0 7 * * *"},
                next_fire_at=MINUTE + timedelta(hours=1), created_at=context.clock(),
            )
            for number in range(count)
        )  # fmt: skip
