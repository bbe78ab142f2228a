"""Promotion, versions, schedules, and who may see and change a job."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.store.tables import EnvironmentRow, MemberRow, ProjectRow, UserRow
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.jobs_bench import API, Jobs, notebook, promotion

WORK = notebook("print(rate)", parameters="rate: float = 0.5  # share of the data")
DAILY = {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture
def jobs(client: TestClient, context: Context, ada: Headers, project: ProjectRow) -> Jobs:
    return Jobs(client, context, ada)


@each_database
def test_a_promoted_notebook_is_a_job_with_an_active_version(jobs: Jobs) -> None:
    job = jobs.promote(WORK, helper="x = 1", schedule=DAILY)
    assert (job["name"], job["project"], job["run_as"], job["stage"]) == ("work", "starter", "ada", "prototype")
    assert job["schedule_words"] == "At 06:00 every day"
    assert job["next_fire_at"].endswith(":00:00.000Z")
    version = job["version"]
    assert (version["number"], version["state"]) == (1, "active")
    assert version["files"] == ["helper.py", "work.ipynb"]
    assert version["parameters"] == [{"name": "rate", "type": "float", "default": 0.5, "help": "share of the data"}]
    assert version["size"]["cpu"] == 1
    assert jobs.get("/jobs?project=starter")[0]["id"] == job["id"]


def test_what_did_not_change_makes_no_version_and_what_did_makes_the_next(jobs: Jobs) -> None:
    first = jobs.promote(WORK)
    assert jobs.promote(WORK)["versions"] == first["versions"]
    changes: list[dict[str, Any]] = [
        {"content": notebook("print(2 * rate)", parameters="rate: float = 0.5  # share of the data")},
        {"helper": "x = 2"},
        {"parameters": {"rate": 0.75}},
        {"timeout_s": 60},
        {"size": {"cpu": 2, "memory": 2**31}},
    ]
    for number, change in enumerate(changes, start=2):
        again = jobs.promote(change.pop("content", WORK), **change)
        assert (again["id"], again["version"]["number"]) == (first["id"], number)
    assert [one["state"] for one in again["versions"]] == ["active"] + ["retired"] * 5


def test_a_notebook_that_attaches_to_a_cluster_gets_one_without_being_told(jobs: Jobs) -> None:
    with jobs.context.database.begin() as session:
        session.scalars(select(EnvironmentRow)).one().packages = {"ray": "2.60.0", "aiohttp-cors": "0.8"}
    attaches = notebook("import moorage", "moorage.attach(engine='ray').connect()")
    seen = jobs.post("/jobs/inspect", promotion(attaches))
    assert (seen["cluster"]["engine"], seen["cluster"]["max_workers"]) == ("ray", 2)
    assert jobs.promote(attaches)["version"]["cluster"]["engine"] == "ray"
    refused = jobs.client.post(
        f"{API}/jobs", json=promotion(notebook("import moorage; moorage.attach(engine='dask')")), headers=jobs.headers
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "engine_missing")


def test_a_new_environment_makes_a_new_version(jobs: Jobs) -> None:
    jobs.promote(WORK)
    with jobs.context.database.begin() as session:
        session.scalars(select(ProjectRow)).one().environment = "sha256-other"
    assert jobs.promote(WORK)["version"]["number"] == 2


def test_promoting_again_keeps_the_schedule_and_its_next_fire(jobs: Jobs) -> None:
    first = jobs.promote(WORK, schedule=DAILY)
    again = jobs.promote(WORK, parameters={"rate": 1})
    assert (again["schedule"], again["next_fire_at"]) == (first["schedule"], first["next_fire_at"])


def test_a_repeated_request_with_the_same_key_makes_nothing_twice(jobs: Jobs) -> None:
    first = jobs.post("/jobs", promotion(WORK), **{"Idempotency-Key": "k"})
    jobs.promote(WORK, timeout_s=5)
    assert jobs.post("/jobs", promotion(WORK), **{"Idempotency-Key": "k"})["id"] == first["id"]
    assert len(jobs.get(f"/jobs/{first['id']}")["versions"]) == 2


@pytest.mark.parametrize("number", [-1, 0, 2, 10**30])
def test_a_run_of_a_version_that_is_not_there_is_refused(jobs: Jobs, number: int) -> None:
    job = jobs.promote(WORK)
    answer = jobs.client.post(f"{API}/jobs/{job['id']}/runs", json={"version": number}, headers=jobs.headers)
    assert (answer.status_code, answer.json()["field"]) == (400, "version")
    assert f"has no version {number}." in answer.json()["message"]


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"parameters": {"rat": 1}}, "parameters.rat", "has no parameter 'rat'"),
        ({"parameters": {"rate": "much"}}, "parameters.rate", "is not a number"),
        ({"schedule": {"cron": "0 25 * * *"}}, "cron", "the hour"),
        ({"schedule": {**DAILY, "timezone": "Berlin"}}, "timezone", "Europe/Berlin"),
        ({"name": "../x"}, "name", "is no name for a job"),
        ({"timeout_s": 0}, "timeout_s", "not between"),
        ({"size": {"cpu": 0, "memory": 1}}, "cpu", "too little"),
        ({"secrets": ["NONE"]}, "secrets", "has a secret 'NONE'"),
        ({"notebook": "other.ipynb"}, "notebook", "not among the files"),
        (
            {"cluster": {"engine": "ray", "max_workers": 999, "worker": {"cpu": 1, "memory": 2**30}}},
            "cluster.max_workers",
            "range",
        ),
    ],
)
def test_bad_requests_name_the_field_and_leave_nothing_behind(
    jobs: Jobs, change: dict[str, Any], field: str, sentence: str
) -> None:
    for path in ("/jobs", "/jobs/inspect"):
        if field == "secrets" and path != "/jobs":
            continue
        answer = jobs.client.post(API + path, json={**promotion(WORK), **change}, headers=jobs.headers)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert sentence in answer.json()["message"]
    assert jobs.get("/jobs") == []


def test_inspecting_says_what_promoting_would_make_and_writes_nothing(jobs: Jobs) -> None:
    body = promotion(WORK, schedule=DAILY)
    seen = jobs.post("/jobs/inspect", body)
    assert (seen["new_job"], seen["new_version"], seen["parameters"][0]["name"]) == (True, True, "rate")
    assert len(seen["schedule"]["next"]) == 5
    assert jobs.get("/jobs") == []
    jobs.post("/jobs", body)
    seen = jobs.post("/jobs/inspect", body)
    assert (seen["new_job"], seen["new_version"]) == (False, False)


def test_a_preview_shows_the_next_fires(jobs: Jobs) -> None:
    shown = jobs.post("/schedules/preview", {"cron": "@daily"})
    assert shown["words"] == "At 00:00 every day"
    answer = jobs.client.post(f"{API}/schedules/preview", json={"cron": "x"}, headers=jobs.headers)
    assert (answer.status_code, answer.json()["field"]) == (400, "cron")


def test_a_schedule_is_paused_resumed_and_removed(jobs: Jobs) -> None:
    job = jobs.promote(WORK)
    url = f"{API}/jobs/{job['id']}/schedule"
    assert jobs.client.put(url, json=DAILY, headers=jobs.headers).json()["next_fire_at"] is not None
    assert jobs.client.put(url, json={**DAILY, "paused": True}, headers=jobs.headers).json()["next_fire_at"] is None
    assert jobs.client.put(url, json=DAILY, headers=jobs.headers).json()["next_fire_at"] is not None
    assert jobs.client.delete(url, headers=jobs.headers).json()["schedule"] is None


def test_another_user_neither_sees_nor_takes_over_a_job(jobs: Jobs, bob: Headers) -> None:
    job = jobs.promote(WORK)
    client = jobs.client
    assert client.get(f"{API}/jobs", headers=bob).json() == []
    for method, path, body in (
        ("GET", f"/jobs/{job['id']}", None),
        ("DELETE", f"/jobs/{job['id']}", None),
        ("PUT", f"/jobs/{job['id']}/schedule", DAILY),
        ("DELETE", f"/jobs/{job['id']}/schedule", None),
        ("POST", f"/jobs/{job['id']}/runs", {}),
        ("GET", f"/jobs/{job['id']}/runs", None),
    ):
        assert client.request(method, API + path, json=body, headers=bob).status_code == 404, path
    answer = client.post(f"{API}/jobs", json=promotion(WORK), headers=bob)
    assert (answer.status_code, answer.json()["code"]) == (403, "job_of_another")


def test_a_member_sees_a_job_but_may_not_change_it_nor_see_its_runs(jobs: Jobs, bob: Headers) -> None:
    job = jobs.promote(WORK)
    jobs.start(job)
    with jobs.context.database.begin() as session:
        user = session.scalars(select(UserRow).where(UserRow.hub_name == "bob")).one()
        project_id = session.scalars(select(ProjectRow)).one().id
        session.add(MemberRow(project_id=project_id, user_id=user.id, role="editor"))
    seen = jobs.client.get(f"{API}/jobs/{job['id']}", headers=bob)
    assert (seen.status_code, seen.json()["last_run"]) == (200, None)
    assert jobs.client.get(f"{API}/jobs/{job['id']}/runs", headers=bob).json() == []
    assert jobs.client.post(f"{API}/jobs/{job['id']}/runs", json={}, headers=bob).status_code == 403
    assert jobs.client.delete(f"{API}/jobs/{job['id']}", headers=bob).status_code == 403


def test_a_removed_job_fires_no_more_and_its_name_is_free_again(jobs: Jobs) -> None:
    job = jobs.promote(WORK, schedule=DAILY)
    run_id = jobs.start(job)
    assert jobs.client.delete(f"{API}/jobs/{job['id']}", headers=jobs.headers).status_code == 204
    assert jobs.get("/jobs") == []
    assert jobs.step(run_id)["phase"] == "cancelled"
    assert jobs.promote(WORK)["id"] != job["id"]
