"""What a browser's session may be used for by pages of others: nothing. By which names the service may be asked: its own."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from moorage_service.app import create_app
from moorage_service.context import Context
from moorage_service.settings import PREFIX, Inventory, Rates, Settings
from tests.fakes.hub import FakeHub
from tests.security.test_disabled_users import cookies_of
from tests.service.conftest import Headers
from tests.service.test_routes import Route, routes_of

PORTAL = "http://localhost:8000"
STRANGERS = [
    "http://evil.example",
    "http://bob.localhost:8000",  # a sibling's server
    "http://content.localhost:8000",
    "http://localhost:8001",
    "http://localhost:8000.evil.example",
    "http://localhost:8000@evil.example",
    "https://localhost:8000",
    "null",
    None,
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state=tmp_path / "state", inventory=Inventory(cpu=8, memory=32 << 30, gpus={}), hub_token_cache_s=0, seed_starter=False,
        public_url=PORTAL, origins="per-user", rates=Rates(enabled=False),
    )  # fmt: skip


@pytest.fixture
def own(client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers]) -> Headers:
    """An admin's session, as their browser sends it from the portal's own page."""
    assert "root" in people
    return cookies_of(client, hub, context, "root")


@pytest.fixture
def changes(context: Context) -> list[Route]:
    found = [route for route in routes_of(create_app(context, background=False)) if route.method != "GET"]
    assert {"POST", "PUT", "PATCH", "DELETE", "WEBSOCKET"} <= {route.method for route in found}
    return found


def path_of(route: Route) -> str:
    return re.sub(r"{[^}]*}", "x", route.path)


def test_a_page_of_others_changes_nothing(client: TestClient, own: Headers) -> None:
    for origin in STRANGERS:
        headers = {"Cookie": own["Cookie"], **({} if origin is None else {"Origin": origin})}
        answer = client.put("/api/v1/me/secrets/KEY", headers=headers, json={"value": "x"})
        assert answer.status_code == 403, origin


def test_nor_does_it_by_any_other_route(client: TestClient, own: Headers, changes: list[Route]) -> None:
    """A sibling is the nearest stranger: to a browser its page may be of the same site."""
    headers = {"Cookie": own["Cookie"], "Origin": "http://bob.localhost:8000"}
    for route in changes:
        if route.method == "WEBSOCKET":
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(path_of(route), headers=dict(headers)):
                raise AssertionError(f"{route} was opened")
            continue
        answer = client.request(route.method, path_of(route).removeprefix(PREFIX), headers=headers)
        assert answer.status_code == 403, f"{route}: {answer.status_code} {answer.text[:200]}"


def test_what_the_browser_says_of_the_asking_page_counts_too(client: TestClient, own: Headers) -> None:
    for site in ("same-site", "cross-site"):
        fetched = {**own, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"}
        assert client.put("/api/v1/me/secrets/KEY", headers=fetched, json={"value": "x"}).status_code == 403
        assert client.get("/api/v1/me", headers=fetched).status_code == 403
        led_here = {**own, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert client.get("/projects", headers=led_here).status_code == 200


def test_the_portals_own_pages_and_tokens_go_on(client: TestClient, own: Headers, people: dict[str, Headers]) -> None:
    secret = {"url": "/api/v1/me/secrets/KEY", "json": {"value": "x"}}
    fetched = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.put(headers={**own, **fetched}, **secret).status_code == 204  # type: ignore[arg-type]
    # A token is no ambient authority: whoever sends one has it.
    with_token = {**people["root"], "Origin": "http://evil.example"}
    assert client.put(headers=with_token, **secret).status_code == 204  # type: ignore[arg-type]


OTHER_NAMES = ["evil.example", "evil.example:8000", "bob.localhost:8000", "localhost.evil.example:8000", "x", ""]


def test_a_name_that_is_not_ours_gets_nothing(client: TestClient, people: dict[str, Headers]) -> None:
    """Another site can make its name lead here; the browser would then take our answers for that site's own."""
    for host in OTHER_NAMES:
        named = {**people["root"], "Host": host}
        for path in ("/api/v1/me", "/health", "/metrics", "/projects"):
            answer = client.get(path, headers=named)
            assert (answer.status_code, answer.json()["code"]) == (421, "misdirected"), f"{host}: {path}"
            assert PORTAL in answer.json()["message"]
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(f"{PREFIX}/dashboards/x/y", headers=dict(named)),
        ):
            raise AssertionError("a websocket was opened")


def test_the_machines_other_names_lead_a_person_to_the_portal(client: TestClient) -> None:
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost"):
        answer = client.get("/projects?x=1", headers={"Host": host})
        assert answer.headers["location"] == f"{PORTAL}{PREFIX}/projects?x=1"
        assert client.post("/sign-out", headers={"Host": host}).status_code == 421
    capital = client.get("/projects", headers={"Host": "LOCALHOST:8000"})  # it is the portal
    assert capital.headers["location"].startswith(f"{PORTAL}/hub/api/oauth2/authorize")


def test_hub_and_workloads_ask_at_the_services_own_address(
    client: TestClient, context: Context, people: dict[str, Headers]
) -> None:
    host = f"127.0.0.1:{context.settings.port}"
    assert client.get("/api/v1/me", headers={**people["ada"], "Host": host}).status_code == 200


def test_in_a_cluster_they_ask_by_the_services_name(
    client: TestClient, context: Context, people: dict[str, Headers]
) -> None:
    context.settings.service_connect_url = "http://moorage-service:8090"
    for host, status in (("moorage-service:8090", 200), ("moorage-service:8091", 421), ("moorage-hub:8090", 421)):
        assert client.get("/api/v1/me", headers={**people["ada"], "Host": host}).status_code == status, host
    assert context.settings.url == "http://moorage-service:8090/services/moorage"
