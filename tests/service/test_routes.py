"""The whole route table: who must be let in is declared everywhere, and what is another user's is found nowhere.

Routes are enumerated, so that a new one is tested without anybody remembering to. A route with a body needs a good one in `BODIES`:
a refusal for a bad body would hide that the route never asked who calls.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIWebSocketRoute, iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Mount
from starlette.websockets import WebSocketDisconnect

from moorage.wire import WorkloadKind
from moorage_service.app import create_app
from moorage_service.clusters.dashboards import socket_user
from moorage_service.context import Context, make_context
from moorage_service.identity import callers
from moorage_service.portal.access import page_admin, page_user
from moorage_service.settings import PREFIX, Settings
from moorage_service.store.tables import ProjectRow
from tests.fakes.hub import FakeHub
from tests.service.browser import sign_in
from tests.service.world import GIB, SIZE, World, make_world

Headers = dict[str, str]
API = f"{PREFIX}/api/v1"

# What anybody may reach: liveness, numbers without names, signing in, the schema, styles.
OPEN = {
    f"{PREFIX}",
    f"{PREFIX}/health",
    f"{PREFIX}/metrics",
    f"{PREFIX}/moorage.schema.json",
    f"{PREFIX}/oauth_callback",
    f"{PREFIX}/sign-out",
    f"{PREFIX}/static",
    f"{PREFIX}/static/swagger",
    f"{API}/openapi.json",
}
GUARDS: dict[object, str] = {
    callers.require_user: "user", callers.require_member: "member", callers.require_admin: "admin",
    callers.require_workload: "workload", callers.require_spawner: "spawner", page_user: "page", page_admin: "admin page",
    socket_user: "user",
}  # fmt: skip
STRONGEST = ("admin page", "admin", "spawner", "workload", "page", "member", "user")


@dataclass(frozen=True)
class Route:
    method: str  # "WEBSOCKET" for a websocket
    path: str
    guard: str | None
    takes_body: bool

    @property
    def is_page(self) -> bool:
        return self.guard in ("page", "admin page")

    def __str__(self) -> str:
        return f"{self.method} {self.path.removeprefix(PREFIX)}"


def routes_of(app: Any) -> Iterator[Route]:
    for found in iter_route_contexts(app.router.routes):
        if isinstance(found.original_route, APIWebSocketRoute):
            yield Route("WEBSOCKET", str(found.path), guard_of(found.original_route.dependant), False)
            continue
        dependant = getattr(found, "dependant", None) if not isinstance(found.original_route, Mount) else None
        body = bool(getattr(found, "body_field", None)) if dependant is not None else False
        for method in sorted(found.methods or {"GET"}):
            if method not in ("HEAD", "OPTIONS"):
                yield Route(method, str(found.path), None if dependant is None else guard_of(dependant), body)


def guard_of(dependant: Dependant) -> str | None:
    found = {GUARDS[each.call] for each in _tree(dependant) if each.call in GUARDS}
    return next((guard for guard in STRONGEST if guard in found), None)


def _tree(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _tree(each)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    """Of the application as it is made, once."""
    context = make_context(Settings(state=tmp_path_factory.mktemp("routes") / "state"))
    found = list(routes_of(create_app(context, background=False)))
    context.hub.close()
    context.database.close()
    assert len(found) > 60
    return found


def test_every_route_declares_who_may_call_it(routes: list[Route]) -> None:
    undeclared = {str(route) for route in routes if route.guard is None and route.path not in OPEN}
    assert not undeclared, "give each a Require... dependency, or add it to OPEN with a reason"
    guarded_though_open = {str(route) for route in routes if route.guard is not None and route.path in OPEN}
    assert not guarded_though_open


def test_nobody_gets_anywhere_without_a_credential(client: TestClient, routes: list[Route]) -> None:
    for route in routes:
        if route.guard is None:
            continue
        path = re.sub(r"{[^}]*}", "x", route.path).removeprefix(PREFIX)
        if route.method == "WEBSOCKET":
            refuse_socket(client, path, {})
            continue
        answer = client.request(route.method, path)
        if route.is_page and route.method == "GET":
            assert answer.status_code == 302, route
            assert "/hub/api/oauth2/authorize" in answer.headers["location"]
        else:
            assert answer.status_code == 401, f"{route}: {answer.text[:300]}"


def refuse_socket(client: TestClient, path: str, headers: Headers) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"{PREFIX}{path}", headers=dict(headers)):
        raise AssertionError(f"{path} was opened")


# What another user's routes are asked with: a body that would do, had it been one's own.

MANIFEST = b"name: adas\npython: '3.11'\n"
CRON = {"cron": "0 6 * * *", "timezone": "UTC"}
BODIES: dict[str, dict[str, Any]] = {
    "PUT /api/v1/projects/{slug}/manifest": {"content": MANIFEST, "headers": {"Content-Type": "text/plain"}},
    "PUT /api/v1/projects/{slug}/files": {"content": b"\0" * 10240, "headers": {"Content-Type": "application/x-tar"}},
    "PUT /api/v1/projects/{slug}/members/{user}": {"json": {"role": "owner"}},
    "PUT /api/v1/projects/{slug}/secrets/{name}": {"json": {"value": "x"}},
    "POST /api/v1/projects/{slug}/notebook": {"json": {"cpu": 1, "memory": GIB}},
    "POST /api/v1/notebooks/{workload_id}/observations": {"json": {"state": "gone"}},
    "PUT /api/v1/jobs/{job_id}/schedule": {"json": CRON},
    "POST /api/v1/jobs/{job_id}/runs": {"json": {}},
    "POST /api/v1/runs/{run_id}/progress": {"json": {"sequence": 1, "cells": []}},
    "PUT /api/v1/runs/{run_id}/outputs/{name}": {"content": b"{}"},
    "PUT /api/v1/limits/{limit_id}": {"json": {"scope": "everyone", "resource": "cpu", "amount": 1}},
    "PATCH /api/v1/users/{name}": {"json": {"active": False}},
    "PATCH /api/v1/clusters/{cluster_id}": {"json": {"keep_for_s": 60}},
    "POST /api/v1/users/{name}/sign-out": {"json": {}},
    "PUT /api/v1/me/secrets/{name}": {"json": {"value": "x"}},
    "POST /admin/limits/{limit_id}/change": {"data": {"amount": "1"}},
    "POST /admin/limits/{limit_id}/remove": {"data": {"why": ""}},
    "POST /admin/users/{name}": {"data": {"active": "no"}},
    "POST /admin/users/{name}/sign-out": {"data": {"why": ""}},
    "POST /projects/{slug}/manifest": {"data": {"manifest": MANIFEST.decode()}},
    "POST /projects/{slug}/members": {"data": {"user": "bob", "role": "owner"}},
    "POST /projects/{slug}/secrets": {"data": {"name": "A", "value": "b"}},
    "POST /workloads/{workload_id}/stop": {"data": {"why": ""}},
    "POST /jobs/{job_id}/run": {"data": {}},
    "POST /clusters/{cluster_id}/keep": {"data": {"on_notebook_end": "keep", "hours": "1"}},
    "POST /jobs/{job_id}/schedule": {"data": {"cron": "0 6 * * *", "timezone": "UTC"}},
    "POST /start": {"data": {"project": "adas", "cpu": "1", "memory_gib": "2"}},
}
# One's own by name, whoever asks: not a way to somebody else's.
OWN_NAMES = {"/api/v1/me/secrets/{name}", "/secrets/{name}/remove"}
# With a parameter that names nothing of anybody's.
NOT_IDS = {"/static/{path}"}


def with_ids(route: Route, world: World) -> list[str]:
    """The route's paths with the ids of `world`, one for each kind of workload where any will do."""
    path = route.path.removeprefix(PREFIX)
    ids = {
        "slug": world.slug, "build_id": world.build, "job_id": world.job, "run_id": world.run, "cluster_id": world.cluster,
        "name": "KEY" if "secrets" in path else ("notebook.ipynb" if "outputs" in path else world.user), "user": world.user,
        "limit_id": "machine-cpu", "path": "index.html", "action": "pause",
    }  # fmt: skip
    kinds = [WorkloadKind.NOTEBOOK] if "/notebooks/" in path else list(WorkloadKind)
    every = [{**ids, "workload_id": world.workloads[kind]} for kind in kinds]
    return sorted({re.sub(r"{(\w+)(:\w+)?}", lambda match, known=each: known[match.group(1)], path) for each in every})  # type: ignore[misc]


def addressed(routes: list[Route]) -> list[Route]:
    """Routes that name a thing by its id."""
    found = [route for route in routes if "{" in route.path and route.guard is not None]
    return [route for route in found if route.path.removeprefix(PREFIX) not in OWN_NAMES | NOT_IDS]


@dataclass
class Two:
    """Two users with everything; of each the credentials, by name."""

    client: TestClient
    ada: World
    bob: World
    credentials: dict[str, Headers]
    ada_headers: Headers

    def ask(self, route: Route, path: str, headers: Headers) -> Any:
        body = dict(BODIES.get(f"{route.method} {route.path.removeprefix(PREFIX)}", {}))
        if route.takes_body and not body and route.method != "GET":
            raise AssertionError(f"{route} takes a body: add a good one to BODIES")
        return self.client.request(route.method, path, **{**body, "headers": {**body.get("headers", {}), **headers}})


@pytest.fixture
def two(client: TestClient, context: Context, hub: FakeHub, ada: Headers, bob: Headers, project: ProjectRow) -> Two:
    worlds = make_world(context, "ada", "adas"), make_world(context, "bob", "bobs")
    sign_in(client, hub, "bob", f"{PREFIX}/")
    session = {
        "Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items()),
        "Origin": context.settings.public_url,
    }
    client.cookies.clear()
    tokens = {kind.value: {"Authorization": f"Bearer {token}"} for kind, token in worlds[1].tokens.items()}
    return Two(client, *worlds, {"hub": bob, "session": session, **tokens}, ada)


def test_another_users_things_are_found_by_no_route(two: Two, routes: list[Route]) -> None:
    asked = 0
    for route in addressed(routes):
        for path in with_ids(route, two.ada):
            for name, headers in two.credentials.items():
                if route.is_page and name not in ("session", "hub"):
                    continue  # any token is one too many
                if route.method == "WEBSOCKET":
                    refuse_socket(two.client, path, headers)
                    continue
                answer = two.ask(route, path, headers)
                asked += 1
                expected = expected_refusals(route, name)
                assert answer.status_code in expected, (
                    f"{route} as bob by {name}: {answer.status_code} {answer.text[:300]}"
                )
                assert "adas-" not in answer.text  # names of her workloads, values of her secrets
    assert asked > 200


def expected_refusals(route: Route, credential: str) -> tuple[int, ...]:
    """Not found, where the credential opens the route at all; else forbidden."""
    if route.is_page:
        # A page for a browser's session only; a token does not open it.
        return (404,) if credential == "session" else (403,)
    opens = {
        "user": {"hub", "session", "notebook"},
        "member": {"hub", "session", "notebook", "run"},
        "workload": {"notebook", "run", "cluster"},
        "admin": set[str](),
        "spawner": set[str](),
    }[route.guard or ""]
    return (404,) if credential in opens else (403,)


# Reads whose answer needs more than rows in the store.
NEEDS_MORE = re.compile(r"dashboards/|/outputs/|/attach$|/start/")


def test_the_owner_finds_them_by_the_same_routes(two: Two, routes: list[Route]) -> None:
    """Else the test above would pass because nothing was there."""
    for route in addressed(routes):
        if route.method != "GET" or route.guard not in ("user", "member") or NEEDS_MORE.search(route.path):
            continue
        for path in with_ids(route, two.ada):
            answer = two.ask(route, path, two.ada_headers)
            assert answer.status_code in (200, 204), f"{route}: {answer.status_code} {answer.text[:300]}"


NOTEBOOK = base64.b64encode(b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}').decode()
PROMOTION = {"project": "adas", "notebook": "a.ipynb", "files": [{"path": "a.ipynb", "content": NOTEBOOK}]}
NAMED_IN_QUERY_OR_BODY: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/api/v1/me/usage?project=adas", None),
    ("GET", "/api/v1/clusters/options?project=adas", None),
    ("GET", "/api/v1/jobs?project=adas", None),
    ("POST", "/api/v1/clusters", {"project": "adas", "spec": {"engine": "ray", "worker": SIZE}}),
    ("POST", "/api/v1/jobs", PROMOTION),
    ("POST", "/api/v1/jobs/inspect", PROMOTION),
]


@pytest.mark.parametrize(("method", "path", "body"), NAMED_IN_QUERY_OR_BODY)
def test_another_users_project_is_not_found_by_name(
    two: Two, method: str, path: str, body: dict[str, Any] | None
) -> None:
    for credential in ("hub", "notebook"):
        answer = two.client.request(method, path, json=body, headers=two.credentials[credential])
        assert answer.status_code == 404, answer.text


def test_lists_hold_ones_own_only(two: Two, routes: list[Route]) -> None:
    lists = [
        route
        for route in routes
        if route.method == "GET" and "{" not in route.path and route.guard in ("user", "member")
    ]
    for route in lists:
        for name in ("hub", "notebook"):
            path = route.path.removeprefix(PREFIX)
            answer = two.client.get(path, headers=two.credentials[name], params={"ended": "true"})
            assert "ada" not in answer.text, f"{route} by {name}"
    for path in ("/workloads", "/notebooks", "/clusters", "/runs", "/jobs", "/projects"):
        assert "bob" in two.client.get(f"/api/v1{path}", headers=two.credentials["hub"]).text


def test_a_run_and_a_cluster_reach_what_is_theirs_alone(two: Two) -> None:
    """Not even their owner's other things."""
    run, cluster = two.credentials["run"], two.credentials["cluster"]
    assert two.client.get(f"/api/v1/runs/{two.bob.run}", headers=run).status_code == 200
    for path in (
        f"/notebooks/{two.bob.notebook}",
        f"/clusters/{two.bob.cluster}",
        "/me",
        "/projects",
        f"/jobs/{two.bob.job}",
    ):
        answer = two.client.get(f"/api/v1{path}", headers=run)
        assert answer.status_code in (403, 404), path
    for path in (f"/runs/{two.bob.run}", f"/clusters/{two.bob.cluster}", "/me", "/workloads"):
        assert two.client.get(f"/api/v1{path}", headers=cluster).status_code == 403, path


def test_an_admin_finds_everybodys(two: Two, admin: Headers) -> None:
    for kind, workload in two.ada.workloads.items():
        assert two.client.get(f"/api/v1/{kind.value}s/{workload}", headers=admin).status_code == 200
    names = {each["owner"] for each in two.client.get("/api/v1/usage", headers=admin).json()["workloads"]}
    assert names == {"ada", "bob"}
    assert (
        two.client.delete(f"/api/v1/workloads/{two.ada.notebook}", headers=admin, params={"why": "idle"}).status_code
        == 202
    )
    line = two.client.get("/api/v1/audit", headers=admin).json()[0]
    assert (line["action"], line["target"], line["why"]) == ("workload.stop", two.ada.notebook, "idle")
    events = two.client.get(f"/api/v1/workloads/{two.ada.notebook}/events", headers=two.ada_headers).json()
    assert events[-1]["message"] == "Stopped by the admin root."
