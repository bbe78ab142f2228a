"""A token that is too old, taken back, for something else, or another workload's opens nothing, by whatever route."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from moorage.wire import Phase, WorkloadKind
from moorage_service.context import Context
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.security.test_disabled_users import cookies_of
from tests.service import test_routes
from tests.service.conftest import Headers
from tests.service.test_routes import BODIES, Route, with_ids
from tests.service.world import World, make_world

routes = test_routes.routes


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def bad_credentials(
    client: TestClient, context: Context, hub: FakeHub, clock: FakeClock, good: Headers, world: World
) -> dict[str, Headers]:
    """All once good, or nearly so, for ada."""
    token = good["Authorization"].partition(" ")[2]
    revoked = hub.add_token("ada")
    hub.revoke(revoked)
    with context.database.begin() as session:
        ended = session.get_one(WorkloadRow, world.notebook)
        lifecycle.ended(session, ended, Phase.STOPPED, now=context.clock())
        session.get_one(WorkloadRow, world.run).generation += 1
    session_cookie = cookies_of(client, hub, context, "ada")
    clock.advance(context.settings.session_s + 1)
    return {
        "revoked": bearer(revoked),
        "for the hub alone": bearer(hub.add_token("ada", scopes=("self",))),
        "for another service": bearer(hub.add_token("ada", scopes=("access:services!service=other",))),
        "without any scope": bearer(hub.add_token("ada", scopes=())),
        "the service's own at the hub": bearer(hub.service_token),
        "of a notebook that has ended": bearer(world.tokens[WorkloadKind.NOTEBOOK]),
        "of an earlier generation": bearer(world.tokens[WorkloadKind.RUN]),
        "an expired session": session_cookie,
        "a session as a token": bearer(session_cookie["Cookie"].partition("=")[2]),
        "a token as a session": {"Cookie": f"moorage-session={token}", "Origin": context.settings.public_url},
    }


def test_every_route_refuses_what_is_no_good_credential(
    client: TestClient,
    context: Context,
    hub: FakeHub,
    clock: FakeClock,
    ada: Headers,
    project: ProjectRow,
    routes: list[Route],
) -> None:
    world = make_world(context, "ada", "adas")
    bad = bad_credentials(client, context, hub, clock, ada, world)
    asked = 0
    for route in (each for each in routes if each.guard is not None):
        path = with_ids(route, world)[0]
        for name, headers in bad.items():
            asked += 1
            if route.method == "WEBSOCKET":
                with pytest.raises(WebSocketDisconnect), client.websocket_connect(path, headers=dict(headers)):
                    pass
                continue
            answer = ask(client, route, path, headers)
            assert answer.status_code in (302, 401, 403), (
                f"{route} with one {name}: {answer.status_code} {answer.text[:200]}"
            )
            if answer.status_code == 302:  # a page leads to the sign-in
                assert "/hub/api/oauth2/authorize" in answer.headers["location"], route
    assert asked > 600
    token = ada["Authorization"].partition(" ")[2]
    for headers in (
        bearer(token[:-1]),
        bearer(f"{token}x"),
        bearer(token.upper()),
        {"Authorization": f"Basic {token}"},
    ):
        assert client.get("/api/v1/me", headers=headers).status_code == 401, headers
    assert client.get("/api/v1/me", headers=ada).status_code == 200


def test_no_route_takes_a_token_in_its_address(
    client: TestClient, context: Context, ada: Headers, project: ProjectRow, routes: list[Route]
) -> None:
    """Addresses are written into logs and histories."""
    world = make_world(context, "ada", "adas")
    token = ada["Authorization"].partition(" ")[2]
    for route in (each for each in routes if each.guard is not None and each.method != "WEBSOCKET"):
        path = with_ids(route, world)[0]
        for name in ("token", "access_token", "api_key"):
            answer = ask(client, route, f"{path}?{name}={token}", {})
            assert answer.status_code in (302, 401), f"{route}: {answer.status_code}"


def test_a_workloads_token_reports_for_that_workload_alone(
    client: TestClient, context: Context, ada: Headers, bob: Headers, project: ProjectRow, routes: list[Route]
) -> None:
    """Another server's token of the same user is another's."""
    first, second, bobs = (make_world(context, *who) for who in (("ada", "one"), ("ada", "two"), ("bob", "three")))
    asked = 0
    for route in (each for each in routes if each.guard == "workload"):
        for path in with_ids(route, first):
            strangers = [bearer(token) for world in (second, bobs) for token in world.tokens.values()]
            own = [bearer(token) for kind, token in first.tokens.items() if kind is not WorkloadKind.RUN]
            for headers in (*strangers, *own, ada):
                if "{" not in route.path and headers["Authorization"].startswith("Bearer moor_"):
                    continue  # an agent's report is about whose token it is
                answer = ask(client, route, path, headers)
                assert answer.status_code in (403, 404), f"{route}: {answer.status_code} {answer.text}"
                asked += 1
    assert asked >= 16


def ask(client: TestClient, route: Route, path: str, headers: Headers) -> Any:
    body = dict(BODIES.get(f"{route.method} {route.path.removeprefix(PREFIX)}", {}))
    return client.request(route.method, path, **{**body, "headers": {**body.get("headers", {}), **headers}})
