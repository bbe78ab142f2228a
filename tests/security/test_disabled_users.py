"""A disabled user, and one who is signed out: what is refused at once, what ends later, what goes on, and what comes back."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from moorage.wire import WorkloadKind
from moorage_service.app import create_app
from moorage_service.context import Context, make_context
from moorage_service.identity.disabled import end_work
from moorage_service.jobs.fires import fire_due
from moorage_service.settings import PREFIX, Settings
from moorage_service.store.tables import ProjectRow, UserRow, WorkloadRow
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.service.browser import sign_in
from tests.service.conftest import Headers
from tests.service.jobs_bench import API, Jobs, notebook, run_rows
from tests.service.test_routes import BODIES, Route, routes_of, with_ids
from tests.service.world import World, make_world

START = datetime(2026, 11, 20, 5, 30, tzinfo=UTC)


def disable(client: TestClient, admin: Headers, name: str = "ada", *, active: bool = False) -> None:
    answer = client.patch(f"/api/v1/users/{name}", headers=admin, json={"active": active, "why": "left"})
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Route]]:
    context = make_context(Settings(state=tmp_path_factory.mktemp("routes") / "state"))
    yield list(routes_of(create_app(context, background=False)))
    context.hub.close()
    context.database.close()


@pytest.fixture
def world(context: Context, people: dict[str, Headers], project: ProjectRow) -> World:
    return make_world(context, "ada", "adas")


def cookies_of(client: TestClient, hub: FakeHub, context: Context, name: str) -> Headers:
    sign_in(client, hub, name, f"{PREFIX}/")
    cookie = "; ".join(f"{key}={value}" for key, value in client.cookies.items())
    client.cookies.clear()
    return {"Cookie": cookie, "Origin": context.settings.public_url}


def test_every_route_refuses_a_disabled_user_at_once(
    client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers], world: World, routes: list[Route]
) -> None:
    session = cookies_of(client, hub, context, "ada")
    credentials = {
        "hub": people["ada"],
        "session": session,
        "notebook": {"Authorization": f"Bearer {world.tokens[WorkloadKind.NOTEBOOK]}"},
    }
    tokens = dict(hub.tokens)
    disable(client, people["root"])
    hub.tokens = tokens  # even if the hub went on to stand by them
    asked = 0
    for route in (each for each in routes if each.guard is not None):
        body = dict(BODIES.get(f"{route.method} {route.path.removeprefix(PREFIX)}", {}))
        for path in with_ids(route, world):
            for name, headers in credentials.items():
                asked += 1
                if route.method == "WEBSOCKET":
                    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path, headers=dict(headers)):
                        pass
                    continue
                answer = client.request(
                    route.method, path, **{**body, "headers": {**body.get("headers", {}), **headers}}
                )
                assert answer.status_code in (302, 401, 403), f"{route} by {name}: {answer.text}"
                if answer.status_code == 302:
                    assert "/hub/api/oauth2/authorize" in answer.headers["location"]
    assert asked > 200


def test_a_disabled_user_does_not_get_in_again(client: TestClient, hub: FakeHub, people: dict[str, Headers]) -> None:
    disable(client, people["root"])
    hub.signed_in = "ada"
    with pytest.raises(AssertionError, match="disabled"):
        sign_in(client, hub, "ada", f"{PREFIX}/")


def test_a_disabled_user_is_signed_out_at_the_hub_too(
    client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers]
) -> None:
    root = cookies_of(client, hub, context, "root")
    disable(client, root)
    assert "ada" not in {name for name, _ in hub.tokens.values()}
    assert hub.calls[-1] == ("POST", "/hub/api/sign-out/ada")
    hub.down = True  # which keeps nobody in
    disable(client, root, "bob")
    assert client.get("/api/v1/me", headers=people["bob"]).status_code == 503
    hub.down = False
    assert client.get("/api/v1/me", headers=people["bob"]).status_code == 403


@pytest.fixture
def jobs(client: TestClient, context: Context, ada: Headers, project: ProjectRow, clock: FakeClock) -> Jobs:
    clock.freeze(START)
    return Jobs(client, context, ada)


def test_schedules_of_a_disabled_user_are_skipped_and_not_made_up_for(
    jobs: Jobs, clock: FakeClock, hub: FakeHub, admin: Headers
) -> None:
    jobs.promote(notebook("1"), schedule={"cron": "0 * * * *", "missed": "run_all", "overlap": "replace"})
    disable(jobs.client, admin)
    for _ in range(2):
        clock.advance(3600)
        assert fire_due(jobs.context) == 0
    skipped = [(workload.phase, workload.reason) for workload, _ in run_rows(jobs.context)]
    assert skipped == [("skipped", "The user 'ada', as whom the job runs, is disabled.")] * 2
    disable(jobs.client, admin, active=True)
    assert fire_due(jobs.context) == 0
    clock.advance(3600)
    assert fire_due(jobs.context) == 1
    assert [workload.phase for workload, _ in run_rows(jobs.context)] == ["skipped", "skipped", "queued"]


def test_what_waits_is_skipped_and_what_executes_finishes(
    jobs: Jobs, context: Context, admin: Headers, ada: Headers, people: dict[str, Headers]
) -> None:
    waiting = jobs.start(jobs.promote(notebook("1")))
    world = make_world(context, "ada", "adas")
    disable(jobs.client, admin)
    jobs.headers = admin
    assert jobs.step(waiting)["phase"] == "skipped"
    own = {"Authorization": f"Bearer {world.tokens[WorkloadKind.RUN]}"}
    progress = {"sequence": 1, "cells": []}
    path = f"{API}/runs/{world.run}"
    assert jobs.client.post(f"{path}/progress", headers=own, json=progress).status_code == 204
    assert jobs.client.put(f"{path}/outputs/notebook.ipynb", headers=own, content=b"{}").status_code == 204
    assert jobs.client.get(f"{API}/me", headers=own).status_code == 403
    end_work(context)
    assert targets(context, world)[WorkloadKind.RUN] == "running"


def targets(context: Context, world: World) -> dict[WorkloadKind, str]:
    with context.database.read() as session:
        return {kind: session.get_one(WorkloadRow, each).target for kind, each in world.workloads.items()}


def test_notebooks_and_clusters_end_after_the_grace(
    client: TestClient, context: Context, clock: FakeClock, admin: Headers, world: World
) -> None:
    clock.freeze(START)
    disable(client, admin)
    clock.advance(context.settings.disabled_grace_s - 1)
    end_work(context)
    assert set(targets(context, world).values()) == {"running"}
    clock.advance(1)
    end_work(context)
    assert targets(context, world) == {
        WorkloadKind.NOTEBOOK: "gone",
        WorkloadKind.CLUSTER: "gone",
        WorkloadKind.RUN: "running",
    }
    events = client.get(f"/api/v1/workloads/{world.notebook}/events", headers=admin).json()
    assert events[-1]["message"] == "Ended because an admin disabled the user 'ada'. Their files are kept."


def test_without_a_grace_they_end_at_once(client: TestClient, context: Context, admin: Headers, world: World) -> None:
    context.settings.disabled_grace_s = 0
    disable(client, admin)
    assert targets(context, world)[WorkloadKind.NOTEBOOK] == "gone"


def test_enabled_again_in_time_nothing_has_ended_and_all_is_there(
    client: TestClient, context: Context, hub: FakeHub, clock: FakeClock, admin: Headers, world: World
) -> None:
    disable(client, admin)
    disable(client, admin, active=True)
    clock.advance(context.settings.disabled_grace_s + 1)
    end_work(context)
    assert set(targets(context, world).values()) == {"running"}
    ada = {"Authorization": f"Bearer {hub.add_token('ada')}"}
    assert [each["name"] for each in client.get("/api/v1/projects/adas/secrets", headers=ada).json()] == ["KEY"]
    notebooks = {"Authorization": f"Bearer {world.tokens[WorkloadKind.NOTEBOOK]}"}
    assert client.get("/api/v1/me", headers=notebooks).status_code == 200
    with context.database.read() as session:
        assert session.query(UserRow).filter_by(hub_name="ada").one().disabled_at is None


# Signing out


def test_an_admin_signs_a_user_out_everywhere(
    client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers]
) -> None:
    sessions = [cookies_of(client, hub, context, "ada") for _ in range(2)]
    others = cookies_of(client, hub, context, "bob")
    answer = client.post("/api/v1/users/ada/sign-out", headers=people["root"], json={"why": "lost laptop"})
    assert answer.status_code == 204, answer.text
    for headers in (*sessions, people["ada"]):
        assert client.get("/api/v1/me", headers=headers).status_code == 401
    for headers in (others, people["bob"]):
        assert client.get("/api/v1/me", headers=headers).status_code == 200
    line = client.get("/api/v1/audit", headers=people["root"]).json()[0]
    assert {name: line[name] for name in ("actor", "action", "target", "before", "why")} == {
        "actor": "root", "action": "user.sign-out", "target": "ada", "before": {"sessions": 2}, "why": "lost laptop",
    }  # fmt: skip
    assert client.post("/api/v1/users/ada/sign-out", headers=people["bob"], json={}).status_code == 403
    assert client.post("/api/v1/users/nobody/sign-out", headers=people["root"], json={}).status_code == 404
