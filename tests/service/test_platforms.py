"""What this release can't do on Kubernetes is refused at once, in one sentence and under one code, and no page offers it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage_service.clusters import reconcile
from moorage_service.context import Context
from moorage_service.errors import NotOnThisPlatform
from moorage_service.jobs import execution
from moorage_service.jobs.clock import ScheduleClock
from moorage_service.jobs.fires import fire_due
from moorage_service.platforms import PLATFORMS
from moorage_service.store.tables import ProjectRow
from tests.cluster_settings import cluster_settings
from tests.fakes.clock import FakeClock
from tests.service.conftest import Headers
from tests.service.jobs_bench import API, Jobs, notebook, promotion, run_rows
from tests.service.portal_bench import Visitor, sign_in, text_of

CLUSTERS, JOBS = PLATFORMS["kubernetes"].no_clusters, PLATFORMS["kubernetes"].no_jobs
SPEC = {"engine": "ray", "worker": {"cpu": 1, "memory": 1 << 30}}
HOURLY = {"cron": "0 * * * *"}


@pytest.fixture
def jobs(client: TestClient, context: Context, ada: Headers, project: ProjectRow, clock: FakeClock) -> Jobs:
    """As it is on one machine."""
    clock.freeze(datetime(2026, 11, 20, 5, 30, tzinfo=UTC))
    return Jobs(client, context, ada)


@pytest.fixture
def moved(jobs: Jobs) -> Any:
    """A job with a schedule and a run that waits, in a database that came to Kubernetes with them."""
    job = jobs.promote(notebook("1"), schedule=HOURLY)
    jobs.start(job)
    to_kubernetes(jobs.context)
    return job


def to_kubernetes(context: Context) -> None:
    told = {"platform": "kubernetes", "kubernetes": cluster_settings()}
    context.settings = context.settings.model_copy(update=told)


@pytest.fixture
def visitor(client: TestClient, context: Context, ada: Headers) -> Visitor:
    return sign_in(client, context, ada, "ada")


def test_each_request_for_one_is_refused_with_the_sentence(
    client: TestClient, ada: Headers, jobs: Jobs, moved: Any
) -> None:
    asked: list[tuple[str, str, Any, str | None]] = [
        ("POST", "/clusters", {"project": "starter", "spec": SPEC}, CLUSTERS),
        ("POST", "/jobs", promotion(notebook("1")), JOBS),
        ("POST", "/jobs", promotion(notebook("1"), schedule=HOURLY), JOBS),
        ("POST", "/jobs/inspect", promotion(notebook("1")), JOBS),
        ("POST", f"/jobs/{moved['id']}/runs", {}, JOBS),
        ("PUT", f"/jobs/{moved['id']}/schedule", {"cron": "5 * * * *"}, JOBS),
    ]
    for method, path, body, sentence in asked:
        answer = client.request(method, f"{API}{path}", headers=ada, json=body)
        assert (answer.status_code, answer.json()) == (
            409,
            {"code": "not_on_this_platform", "message": sentence},
        ), path


def test_the_sizing_widget_is_told_why_there_is_no_engine(client: TestClient, ada: Headers, moved: Any) -> None:
    options = client.get(f"{API}/clusters/options", headers=ada, params={"project": "starter"}).json()
    assert [(each["available"], each["why_not"]) for each in options["engines"]] == [(False, CLUSTERS)] * 2


def test_a_schedule_that_came_along_fires_nothing_and_can_be_removed(
    client: TestClient, ada: Headers, context: Context, clock: FakeClock, moved: Any
) -> None:
    clock.advance(2 * 3600)
    before = len(run_rows(context))
    assert fire_due(context) == 0
    assert ScheduleClock(context).run_once() == 0
    assert len(run_rows(context)) == before
    answer = client.delete(f"{API}/jobs/{moved['id']}/schedule", headers=ada)
    assert (answer.status_code, answer.json()["schedule"]) == (200, None)


def test_what_waited_when_it_came_along_ends_with_the_sentence(
    client: TestClient, ada: Headers, context: Context, project: ProjectRow, moved: Any
) -> None:
    context.settings = context.settings.model_copy(update={"platform": "local"})
    cluster = client.post(f"{API}/clusters", headers=ada, json={"project": "starter", "spec": SPEC}).json()["id"]
    to_kubernetes(context)
    ((run, _),) = run_rows(context)
    execution.step(context, run.id)
    reconcile.step(context, cluster)
    shown = [client.get(f"{API}/workloads/{each}", headers=ada).json() for each in (run.id, cluster)]
    assert [(each["phase"], each["reason"], each["holds"]) for each in shown] == [
        ("skipped", JOBS, {}),
        ("failed", CLUSTERS, {}),
    ]
    assert context.processes.observe_all() == []


def test_a_run_that_came_along_can_be_cancelled(client: TestClient, ada: Headers, context: Context, moved: Any) -> None:
    ((workload, _),) = run_rows(context)
    assert client.delete(f"{API}/runs/{workload.id}", headers=ada).status_code == 202


def test_no_page_offers_what_would_be_refused(visitor: Visitor, context: Context, moved: Any) -> None:
    ((workload, _),) = run_rows(context)
    pages = {
        "/clusters/new": CLUSTERS,
        "/jobs/promote": JOBS,
        f"/jobs/{moved['id']}": JOBS,
        "/workloads": CLUSTERS,
        "/projects/starter": None,
        "/jobs": None,
        f"/runs/{workload.id}": None,
        "/": None,
    }
    for path, sentence in pages.items():
        page = visitor.page(path)
        assert (sentence or "") in text_of(page), path
        for offer in ("/jobs/promote", "/clusters/new"):
            assert f'href="/services/moorage{offer}' not in page.partition("<main")[2], (path, offer)
        for words in (
            "Run now</button>",
            "Promote a notebook</a>",
            "New cluster</a>",
            "Set schedule",
            "Pause</button>",
        ):
            assert words not in page, (path, words)


def test_lists_without_anything_say_why(visitor: Visitor, context: Context, project: ProjectRow) -> None:
    to_kubernetes(context)
    for path in ("/jobs", "/projects/starter"):
        assert str(JOBS) in text_of(visitor.page(path)), path
    assert str(JOBS) in text_of(visitor.page("/workloads"))


def test_a_form_that_was_open_is_answered_with_the_sentence(visitor: Visitor, context: Context, moved: Any) -> None:
    shown = visitor.send(f"/jobs/{moved['id']}/run", referer=f"/jobs/{moved['id']}")
    assert str(JOBS) in text_of(shown)
    fields = {"project": "starter", "engine": "ray", "cpu": "1", "memory_gib": "1"}
    answer = visitor.post("/clusters/new", fields, referer="/clusters/new")
    assert answer.status_code == 409
    assert text_of(answer.text).count(str(CLUSTERS)) == 1


def test_one_machine_can_all() -> None:
    platform = PLATFORMS["local"]
    platform.require_clusters()
    platform.require_jobs()
    with pytest.raises(NotOnThisPlatform):
        PLATFORMS["kubernetes"].require_jobs()


def test_the_page_of_users_offers_no_uid(client: TestClient, context: Context, admin: Headers, ada: Headers) -> None:
    at = sign_in(client, context, admin, "root")
    assert "Runs under uid" in at.page("/admin/users")
    to_kubernetes(context)
    assert "uid" not in text_of(at.page("/admin/users"))
