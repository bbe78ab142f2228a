"""Fault 18: the service is down across fires, the clock is set by an hour in either direction, clocks change, the service is killed.

By each job's policy every fire is run once, or recorded as left out, in words. None is run twice.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from sqlalchemy import select

from moorage.wire import Phase
from moorage.wire.jobs import Missed
from moorage_jobs.schedule import parse
from moorage_service.clock import utc_now
from moorage_service.context import Context
from moorage_service.jobs.clock import ScheduleClock
from moorage_service.jobs.fires import ON_TIME
from moorage_service.store.tables import (
    JobRow,
    JobVersionRow,
    LimitRow,
    ProjectRow,
    RunRow,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from tests.fakes.clock import FakeClock
from tests.faults.checking import check
from tests.faults.crashes import Tally, ask_through_crash, dies, spread
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.jobs_bench import notebook, promotion
from tests.waiting import eventually

HOUR = 3600
MISSED = get_args(Missed)
SIZE = {"cpu": 0.1, "memory": 1 << 26, "gpu": 0, "gpu_type": None}


def add_job(context: Context, name: str, next_fire_at: datetime, **schedule: Any) -> str:
    """A job as promoting makes it, due from `next_fire_at` on."""
    whole = {"cron": "* * * * *", "timezone": "UTC", "missed": "run_latest", "overlap": "allow", "paused": False}
    with context.database.begin() as session:
        project = session.scalars(select(ProjectRow)).one()
        owner = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        job = JobRow(
            project_id=project.id, name=name, run_as=owner.id, schedule={**whole, **schedule}, next_fire_at=next_fire_at,
            created_at=context.clock(),
        )  # fmt: skip
        session.add(job)
        session.flush()
        session.add(
            JobVersionRow(
                job_id=job.id, number=1, state="active", notebook="work.ipynb", files=["work.ipynb"], source="0" * 64,
                environment=str(project.environment), parameters=[], size=SIZE, created_by=owner.id, created_at=context.clock(),
            )
        )  # fmt: skip
    return job.id


def fires_of(context: Context, job_id: str) -> list[tuple[datetime, WorkloadRow]]:
    with context.database.read() as session:
        query = (
            select(RunRow.scheduled_for, WorkloadRow)
            .join(WorkloadRow, WorkloadRow.id == RunRow.workload_id)
            .where(RunRow.job_id == job_id)
            .order_by(RunRow.scheduled_for)
        )
        return [(fire, workload) for fire, workload in session.execute(query) if fire is not None]


@dataclass
class Passed:
    """The stretches of wall-clock time that the clock's passes have covered, and how late each fire was first seen."""

    at: datetime
    seen: dict[datetime, timedelta] = field(default_factory=dict)

    def to(self, now: datetime, cron: str, zone: str) -> None:
        if now > self.at:
            for fire in parse(cron, zone).after(self.at):
                if fire > now:
                    break
                self.seen.setdefault(fire, now - fire)
        self.at = now


def end_all(context: Context) -> None:
    """So that no fire is left out because of others that go on."""
    with context.database.begin() as session:
        for row in session.scalars(select(WorkloadRow).where(WorkloadRow.ended_at.is_(None))):
            lifecycle.ended(session, row, Phase.SUCCEEDED, now=context.clock(), code="run.succeeded", reason="Done.")


def moves(seed: int) -> list[tuple[str, float]]:
    """What happens between passes: time goes by, the service is down for hours, somebody sets the clock, it starts again."""
    chance = random.Random(seed)
    always = [("goes by", 60.0), ("set forward", HOUR), ("goes by", 300), ("set back", -HOUR), ("down", 3 * HOUR + 100)]
    any_of = [("goes by", 50.0), ("goes by", 700), ("set forward", HOUR), ("set back", -HOUR), ("down", 3 * HOUR),
              ("set back while down", -HOUR), ("set forward while down", HOUR)]  # fmt: skip
    return always + [chance.choice(any_of) for _ in range(20)]


@each_database
def test_each_fire_is_run_once_or_left_out_in_words_whatever_happens_to_the_clock(
    context: Context, people: dict[str, Headers], project: ProjectRow, clock: FakeClock, scale: Scale, report: Report
) -> None:
    rounds = scale.rounds(20)
    run = left_out = 0
    for seed in range(rounds):
        start = clock.freeze(datetime(2026, 6, 1 + seed % 28, 5, 30, 20, tzinfo=UTC))
        crons = {
            add_job(context, f"{seed} {missed} {cron}", next(parse(cron).after(start)), cron=cron, missed=missed): (
                cron,
                missed,
            )
            for missed in MISSED
            for cron in ("0 * * * *", "*/20 * * * *")
        }
        passed = {job: Passed(start) for job in crons}
        thread = ScheduleClock(context)
        thread.run_once()
        for what, seconds in moves(seed):
            clock.advance(seconds)
            if "down" in what:
                thread = ScheduleClock(context)
            thread.run_once()
            for job, (cron, _) in crons.items():
                passed[job].to(clock(), cron, "UTC")
            end_all(context)
        for job, (_, missed) in crons.items():
            rows = fires_of(context, job)
            assert [fire for fire, _ in rows] == sorted(passed[job].seen), f"seed {seed}"
            for fire, workload in rows:
                late = passed[job].seen[fire] > ON_TIME
                assert workload.reason, f"seed {seed}: {fire} says nothing"
                if workload.phase == Phase.SKIPPED.value:
                    assert late
                    assert "Missed" in workload.reason
                    left_out += 1
                else:
                    assert not (late and missed == "skip"), f"seed {seed}: {fire}"
                    run += 1
        end_jobs(context)
    check(context, settle_s=0)
    report(18, rounds=rounds, moves=25 * rounds, run=run, left_out_in_words=left_out, lost=0, double=0)


def end_jobs(context: Context) -> None:
    with context.database.begin() as session:
        for job in session.scalars(select(JobRow)):
            job.archived, job.next_fire_at = True, None


@pytest.mark.parametrize(
    ("night", "expected"),
    [
        # 02:00 becomes 03:00 in Berlin: half past two does not exist, and is run at three.
        ("2026-03-29", {"30 2 * * *": 1, "0 * * * *": 4, "*/30 * * * *": 8, "0 3 * * *": 1}),
        # 03:00 becomes 02:00: half past two comes twice, and is run once.
        ("2026-10-25", {"30 2 * * *": 1, "0 * * * *": 6, "*/30 * * * *": 12, "0 3 * * *": 1}),
    ],
)
def test_a_change_of_clocks_fires_what_is_named_once(
    context: Context, people: dict[str, Headers], project: ProjectRow, clock: FakeClock, report: Report,
    night: str, expected: dict[str, int],
) -> None:  # fmt: skip
    zone = "Europe/Berlin"
    table = parse("0 0 * * *", zone)
    start = clock.freeze(datetime.fromisoformat(f"{night}T00:00:30").replace(tzinfo=table.zone).astimezone(UTC))
    end = datetime.fromisoformat(f"{night}T05:00:10").replace(tzinfo=table.zone).astimezone(UTC)
    jobs = {
        cron: add_job(context, f"job {number}", next(parse(cron, zone).after(start)), cron=cron, timezone=zone)
        for number, cron in enumerate(expected)
    }
    thread = ScheduleClock(context)
    while clock() < end:
        clock.advance(30)
        thread.run_once()
        end_all(context)
    counted = {cron: len(fires_of(context, job)) for cron, job in jobs.items()}
    assert counted == expected
    assert all(row.phase == "succeeded" for job in jobs.values() for _, row in fires_of(context, job))
    check(context, settle_s=0)
    report(18, night=night, fires=sum(counted.values()), double=0, lost=0)


@each_database
def test_each_fire_is_there_once_wherever_the_service_was_killed(
    installation: Installation, scale: Scale, report: Report
) -> None:
    tally = Tally()
    rounds = 20 if scale.full else 2  # each point once: a round is two starts of the service
    with installation.context() as context, context.database.begin() as session:
        # No run is admitted: what is tried here is their rows.
        session.add(LimitRow(scope="everyone", resource="runs", amount=0, created_at=context.clock()))
    for number, point in enumerate(spread(("fire.claimed", "fire.committed"), rounds)):
        with installation.context() as context:
            first = utc_now().replace(second=0, microsecond=0) - timedelta(minutes=3)
            jobs = [add_job(context, f"{number} {missed}", first, missed=missed) for missed in MISSED]
        doomed = installation.start(crash_at=point)
        tally.rounds += 1
        dies(doomed.status, point, tally)
        installation.start()
        with installation.context() as context:
            eventually(lambda: all(len(fires_of(context, job)) >= 4 for job in jobs), what="the fires")  # noqa: B023
            for job, missed in zip(jobs, MISSED, strict=True):
                rows = fires_of(context, job)
                assert max(Counter(fire for fire, _ in rows).values()) == 1
                assert [fire for fire, _ in rows][:4] == [first + timedelta(minutes=each) for each in range(4)]
                left_out = [row for _, row in rows[:3] if row.phase == Phase.SKIPPED.value]
                assert len(left_out) >= {"skip": 2, "run_latest": 2, "run_all": 0}[missed], f"{point} {missed}"
                assert all("Missed" in (row.reason or "") for row in left_out)
            end_all(context)
            end_jobs(context)
        installation.services[-1].stop()
    installation.start()
    check(installation)
    assert not tally.missed
    report(18, rounds=rounds, kills=tally.kills, fires_each=4, lost=0, double=0)


def test_a_promotion_is_made_once_wherever_the_service_was_killed(
    installation: Installation, scale: Scale, report: Report
) -> None:
    tally = Tally()
    rounds = 15 if scale.full else 3
    for number, point in enumerate(spread(("promote.stored", "promote.recorded", "promote.committed"), rounds)):
        request = promotion(notebook(f"print({number})"), name=f"job {number}", schedule={"cron": "0 0 1 1 *"})
        key = {"Idempotency-Key": f"promotion-{number}"}
        job = ask_through_crash(installation, point, lambda http: http.post("/jobs", json=request, headers=key), tally)  # noqa: B023
        with installation.context() as context, context.database.read() as session:
            assert session.scalars(select(JobRow.id).where(JobRow.name == f"job {number}")).all() == [job["id"]]
            versions = session.scalars(select(JobVersionRow).where(JobVersionRow.job_id == job["id"])).all()
            assert [version.number for version in versions] == [1]
        installation.services[-1].kill()
    installation.start()
    check(installation)
    assert not tally.missed
    report(18, rounds=rounds, kills=tally.kills, promotions_asked_again=tally.unanswered, double=0, lost=0)
