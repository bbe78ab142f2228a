"""The clock: what is due becomes runs, once, on time, by policy; whoever is signed in or not."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from moorage_service.clock import utc_now
from moorage_service.context import Context
from moorage_service.jobs import execution, launch
from moorage_service.jobs.clock import ScheduleClock
from moorage_service.jobs.fires import fire_due
from moorage_service.store.tables import JobRow, ProjectRow, WorkloadRow
from tests.fakes.clock import FakeClock
from tests.nesting import nesting
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.jobs_bench import API, Jobs, notebook, run_rows
from tests.waiting import eventually

START = datetime(2026, 11, 20, 5, 30, tzinfo=UTC)
HOURLY = {"cron": "0 * * * *"}


@pytest.fixture
def jobs(client: TestClient, context: Context, ada: Headers, project: ProjectRow, clock: FakeClock) -> Jobs:
    clock.freeze(START)
    return Jobs(client, context, ada)


def promote(jobs: Jobs, **schedule: Any) -> Any:
    return jobs.promote(notebook("1"), schedule={**HOURLY, **schedule})


def phases(jobs: Jobs) -> list[str]:
    return [
        f"{run.scheduled_for:%H:%M} {workload.phase}" for workload, run in run_rows(jobs.context) if run.scheduled_for
    ]


@each_database
def test_a_due_fire_makes_one_run_and_the_next_is_set(jobs: Jobs, clock: FakeClock) -> None:
    job = promote(jobs)
    assert fire_due(jobs.context) == 0
    clock.advance(1800)
    assert fire_due(jobs.context) == 1
    assert fire_due(jobs.context) == 0
    assert phases(jobs) == ["06:00 queued"]
    assert jobs.get(f"/jobs/{job['id']}")["next_fire_at"] == "2026-11-20T07:00:00.000Z"
    run = jobs.get("/runs")[0]
    assert (run["trigger"], run["scheduled_for"]) == ("schedule", "2026-11-20T06:00:00.000Z")


def test_a_schedule_that_can_not_be_read_keeps_no_other_from_firing(jobs: Jobs, clock: FakeClock) -> None:
    broken = promote(jobs)
    jobs.promote(notebook("2"), name="other", schedule={**HOURLY})
    with jobs.context.database.begin() as session:
        session.get_one(JobRow, broken["id"]).schedule = {"cron": 5}
    clock.advance(1800)
    with pytest.raises(ExceptionGroup):
        fire_due(jobs.context)
    assert phases(jobs) == ["06:00 queued"]


@each_database
def test_a_clock_that_is_set_back_makes_no_run_twice(jobs: Jobs, clock: FakeClock) -> None:
    job = promote(jobs)
    clock.advance(1800)
    assert fire_due(jobs.context) == 1
    clock.advance(-60)
    for cron in ("0 0 * * *", HOURLY["cron"]):
        jobs.promote(notebook("1"), schedule={"cron": cron})
    assert jobs.get(f"/jobs/{job['id']}")["next_fire_at"] == "2026-11-20T06:00:00.000Z"
    clock.advance(60)
    assert fire_due(jobs.context) == 0
    assert phases(jobs) == ["06:00 queued"]
    assert jobs.get(f"/jobs/{job['id']}")["next_fire_at"] == "2026-11-20T07:00:00.000Z"


@each_database
def test_a_clock_that_was_far_ahead_leaves_no_schedule_silent(jobs: Jobs, clock: FakeClock) -> None:
    """Its battery was empty, say: it stood at 2036 for a moment, and everything waited for the year after."""
    job = promote(jobs, missed="skip")
    clock.advance(10 * 365 * 86400)
    thread = ScheduleClock(jobs.context)
    assert thread.run_once() == 0
    assert jobs.get(f"/jobs/{job['id']}")["next_fire_at"].startswith("2036")
    clock.freeze(START)
    thread.run_once()
    assert jobs.get(f"/jobs/{job['id']}")["next_fire_at"] == "2026-11-20T06:00:00.000Z"
    clock.advance(1800)
    thread.run_once()
    kept = [phase for phase in phases(jobs) if "queued" in phase]
    assert kept == ["06:00 queued"]


@each_database
def test_a_clock_that_was_set_back_while_the_service_was_down_is_noticed_as_it_starts(
    jobs: Jobs, clock: FakeClock
) -> None:
    job = promote(jobs)
    clock.advance(1800)
    assert fire_due(jobs.context) == 1
    clock.advance(-3660)
    ScheduleClock(jobs.context).run_once()
    assert jobs.get(f"/jobs/{job['id']}")["next_fire_at"] == "2026-11-20T05:00:00.000Z"
    clock.advance(60)
    fire_due(jobs.context)
    clock.advance(3600)
    fire_due(jobs.context)
    assert phases(jobs) == ["05:00 skipped", "06:00 queued"]  # it overlaps that of 06:00, which was there before


@each_database
def test_many_clocks_make_each_run_once(jobs: Jobs, clock: FakeClock) -> None:
    for number in range(5):
        jobs.promote(notebook("1"), name=f"job {number}", schedule=HOURLY)
    clock.advance(1800)
    made: list[int] = []
    threads = [threading.Thread(target=lambda: made.append(fire_due(jobs.context))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fire_due(jobs.context)
    assert phases(jobs) == ["06:00 queued"] * 5
    assert sum(made) == 5


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", ["06:00 skipped", "07:00 skipped", "08:00 skipped"]),
        ("run_latest", ["06:00 skipped", "07:00 skipped", "08:00 queued"]),
        ("run_all", ["06:00 skipped", "07:00 skipped", "08:00 queued"]),
    ],
)
def test_fires_missed_while_the_service_was_down_follow_the_policy(
    jobs: Jobs, clock: FakeClock, missed: str, expected: list[str]
) -> None:
    promote(jobs, missed=missed, overlap="allow")
    clock.advance(3 * 3600)  # 08:30; what is older than an hour is not made up for
    fire_due(jobs.context)
    assert phases(jobs) == expected
    skipped = [workload for workload, _ in run_rows(jobs.context) if workload.phase == "skipped"]
    assert all(workload.reason and "Missed" in workload.reason for workload in skipped)
    assert all(workload.ended_at for workload in skipped)


def test_a_schedule_that_was_paused_makes_up_for_nothing(jobs: Jobs, clock: FakeClock) -> None:
    job = promote(jobs, missed="run_all")
    url = f"{API}/jobs/{job['id']}/schedule"
    jobs.client.put(url, json={**HOURLY, "missed": "run_all", "paused": True}, headers=jobs.headers)
    clock.advance(5 * 3600)
    assert fire_due(jobs.context) == 0
    jobs.client.put(url, json={**HOURLY, "missed": "run_all"}, headers=jobs.headers)
    assert fire_due(jobs.context) == 0
    assert phases(jobs) == []


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("forbid", ["06:00 queued", "07:00 skipped", "08:00 skipped"]),
        ("queue", ["06:00 queued", "07:00 queued", "08:00 skipped"]),
        ("allow", ["06:00 queued", "07:00 queued", "08:00 queued"]),
        ("replace", ["06:00 queued", "07:00 queued", "08:00 queued"]),
    ],
)
def test_fires_that_overlap_follow_the_policy_with_the_reason_in_history(
    jobs: Jobs, clock: FakeClock, overlap: str, expected: list[str]
) -> None:
    promote(jobs, overlap=overlap)
    clock.advance(1800)
    for _ in range(3):
        fire_due(jobs.context)
        clock.advance(3600)
    assert phases(jobs) == expected
    for run in jobs.get("/runs"):
        assert (run["phase"] == "skipped") == bool(run["reason"] and "run of this job was" in run["reason"])
    if overlap == "replace":
        assert [workload.target for workload, _ in run_rows(jobs.context)] == ["gone", "gone", "running"]


def test_a_run_that_waits_for_an_earlier_one_says_so_and_goes_when_that_ends(jobs: Jobs, clock: FakeClock) -> None:
    promote(jobs, overlap="queue")
    clock.advance(1800)
    fire_due(jobs.context)
    clock.advance(3600)
    fire_due(jobs.context)
    first, second = (workload.id for workload, _ in run_rows(jobs.context))
    assert "Waits for an earlier run" in jobs.step(second)["reason"]
    assert list(execution.survey(jobs.context, [first, second])) == [first]
    jobs.client.delete(f"{API}/runs/{first}", headers=jobs.headers)
    assert jobs.step(first)["phase"] == "cancelled"
    assert list(execution.survey(jobs.context, [second])) == [second]
    assert jobs.step(second)["phase"] == "pending"


def test_a_run_of_a_user_who_may_not_any_more_is_left_out_with_the_reason(jobs: Jobs, clock: FakeClock) -> None:
    promote(jobs)
    with jobs.context.database.begin() as session:
        for project in session.query(ProjectRow):
            project.open_to_all = False
    clock.advance(1800)
    fire_due(jobs.context)
    run_id = run_rows(jobs.context)[0][0].id
    seen = jobs.step(run_id)
    assert (seen["phase"], seen["reason_code"]) == ("skipped", "run.not-allowed")


def test_what_odd_runs_left_stops_no_schedule_and_keeps_nothing_else(jobs: Jobs, clock: FakeClock) -> None:
    job = promote(jobs)
    runs = [jobs.start(job) for _ in range(3)]
    folders = [launch.scratch(jobs.context.settings, run_id) for run_id in runs]
    with jobs.context.database.begin() as session:
        for run_id, folder in zip(runs, folders, strict=True):
            row = session.get_one(WorkloadRow, run_id)
            row.phase, row.ended_at = "cancelled", clock()
            folder.mkdir(parents=True)
    with jobs.context.database.begin() as session:
        session.execute(text("UPDATE workloads SET details = '{' WHERE id = :id"), {"id": runs[0]})
    with nesting() as nest:
        nest(folders[1])
        thread = ScheduleClock(jobs.context)
        thread.start()
        try:
            clock.advance(1800)
            jobs.context.wakeup.notify()
            eventually(lambda: "06:00 queued" in phases(jobs), what="the fire")
        finally:
            thread.stop()
        assert [folder.exists() for folder in folders] == [True, False, False]


def test_the_thread_fires_within_a_second_and_wakes_when_a_schedule_changes(
    jobs: Jobs, context: Context, clock: FakeClock
) -> None:
    context.clock = utc_now
    job = promote(jobs)
    thread = ScheduleClock(context)
    thread.start()
    try:
        due = utc_now() + timedelta(seconds=1.5)
        with context.database.begin() as session:
            session.get_one(JobRow, job["id"]).next_fire_at = due
        context.wakeup.notify()
        eventually(lambda: run_rows(context), what="the fire")
    finally:
        thread.stop()
    workload, run = run_rows(context)[0]
    assert run.scheduled_for == due
    assert timedelta(0) <= workload.created_at - due < timedelta(seconds=1)
