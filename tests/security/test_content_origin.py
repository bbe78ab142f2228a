"""Dashboards and rendered notebooks are shown at the content origin, entered by a ticket, in nobody else's name."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from moorage_service.content.api import SECRET, SecretsKeptBack
from moorage_service.context import Context
from moorage_service.identity.tokens import hashed
from moorage_service.jobs import outputs
from moorage_service.settings import PREFIX, Inventory, Rates, Settings
from moorage_service.store.tables import TicketRow, UserRow
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.security.test_disabled_users import cookies_of, disable
from tests.service.conftest import Headers
from tests.service.engines_bench import open_settings
from tests.service.test_clusters_dashboards import clusters, dask, ray
from tests.service.world import make_world

__all__ = ["clusters", "dask", "ray"]

PORTAL, CONTENT = "http://localhost:8000", "http://content.localhost:8000"
THERE = {"Host": "content.localhost:8000"}


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=27000) as made:
        made.public_url, made.origins, made.socket_check_s, made.session_check_s = PORTAL, "per-user", 0.05, 0
        made.rates = Rates(enabled=False)
        yield made


@pytest.fixture
def own(client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers]) -> Headers:
    assert "ada" in people
    return cookies_of(client, hub, context, "ada")


def entered(client: TestClient, own: Headers, path: str) -> str:
    """From the portal's path to the address on the content origin that it leads to, as a browser goes; without its host."""
    answer = client.get(path, headers=own)
    assert answer.status_code == 303, answer.text
    to = urlsplit(answer.headers["location"])
    assert f"{to.scheme}://{to.netloc}" == CONTENT
    answer = client.get(f"{to.path}?{to.query}".removeprefix(PREFIX).rstrip("?"), headers=THERE)
    assert answer.status_code == 303, answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["referrer-policy"] == "no-referrer"
    return str(answer.headers["location"]).removeprefix(PREFIX)


def test_a_dashboard_is_shown_there_and_not_at_the_portal(client: TestClient, own: Headers, ray: str) -> None:
    place = entered(client, own, f"/dashboards/{ray}/api/jobs%2Fx?limit=1")
    answer = client.get(place, headers=THERE)
    assert answer.json()["path"] == "/api/jobs%2Fx?limit=1"
    assert {"cookie", "authorization", "origin", "referer"}.isdisjoint(
        name.lower() for name in answer.json()["headers"]
    )
    assert "set-cookie" not in answer.headers
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    grant = place.split("/")[2]
    assert policy["connect-src"].split()[0] == f"content.localhost:8000{PREFIX}/content/{grant}/"
    assert policy["frame-ancestors"] == PORTAL
    assert "allow-popups" not in policy["sandbox"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.post(f"/dashboards/{ray}/api/jobs/", headers=own).json()["code"] == "forbidden"


def test_a_dashboard_that_names_its_own_address_is_told_the_one_it_has(
    client: TestClient, own: Headers, dask: str
) -> None:
    place = entered(client, own, f"/dashboards/{dask}/html")
    answer = client.get(place, headers={**THERE, "Accept-Encoding": "gzip"})
    grant = place.split("/")[2]
    assert answer.text == f"<a href='{PREFIX}/content/{grant}/status'>"
    seen = client.get(place.replace("/html", "/status"), headers=THERE).json()
    assert seen["path"] == f"{PREFIX}/dashboards/{dask}/status"
    location = client.get(place.replace("/html", "/redirect"), params={"to": "workers"}, headers=THERE).headers[
        "location"
    ]
    assert location == f"{PREFIX}/content/{grant}/workers"
    for to in (
        f"{PREFIX}/dashboards/{dask}/workers",
        f"http://127.0.0.1:1{PREFIX}/dashboards/{dask}/x",
        "//evil.example",
        "/x",
    ):
        answer = client.get(place.replace("/html", "/redirect"), params={"to": to}, headers=THERE)
        expected = f"{PREFIX}/content/{grant}/workers" if to.endswith("/workers") else None
        assert answer.headers.get("location") == expected


def test_a_ticket_is_good_once_and_for_seconds(
    client: TestClient, context: Context, clock: FakeClock, own: Headers, ray: str
) -> None:
    first = urlsplit(client.get(f"/dashboards/{ray}/x", headers=own).headers["location"]).path.removeprefix(PREFIX)
    assert client.get(first, headers=THERE).status_code == 303
    script = {**THERE, "Sec-Fetch-Mode": "cors"}
    assert client.get(first, headers=script).json()["code"] == "grant_ended"
    late = urlsplit(client.get(f"/dashboards/{ray}/x?y=1", headers=own).headers["location"])
    clock.advance(context.settings.ticket_s + 1)
    # A person who comes late is led to the portal, which gives a new one.
    again = client.get(f"{late.path}?{late.query}".removeprefix(PREFIX), headers=THERE)
    assert again.headers["location"] == f"{PORTAL}{PREFIX}/dashboards/{ray}/x?y=1"


def test_secrets_are_stored_by_hash_and_reach_no_route(
    client: TestClient, context: Context, own: Headers, ray: str
) -> None:
    place = entered(client, own, f"/dashboards/{ray}/nothing")
    grant = place.split("/")[2]
    with context.database.read() as session:
        rows = session.scalars(select(TicketRow)).all()
    assert [(row.kind, row.hash) for row in rows] == [("grant", hashed(grant))]
    answer = client.get(f"/content/{grant}/a/%2e%2e/b", headers=THERE)
    assert answer.status_code == 400
    assert grant not in answer.text


async def test_the_web_server_itself_sees_no_secret_to_log() -> None:
    """It writes the path of each websocket, from the very object that it gave the application."""
    grant, told = "g" * 43, []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.append(scope[SECRET])

    scope: Scope = {
        "type": "websocket",
        "path": f"{PREFIX}/content/{grant}/ws",
        "raw_path": f"{PREFIX}/content/{grant}/ws".encode(),
    }
    await SecretsKeptBack(app)(scope, lambda: None, lambda _message: None)  # type: ignore[arg-type, return-value]
    assert told == [grant]
    assert grant not in scope["path"]
    assert grant.encode() not in scope["raw_path"]


def test_a_grant_ends_for_pages_and_websockets_when_its_user(
    client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers], clock: FakeClock, dask: str
) -> None:
    """Is not using it, loses it, signs out here, is signed out at the hub, or is disabled."""

    def give_to_bob(_own: Headers) -> None:
        with context.database.begin() as session:
            bob = session.scalars(select(UserRow).where(UserRow.hub_name == "bob")).one()
            for row in session.scalars(select(TicketRow)):
                row.user_id = bob.id

    def forget_at_the_hub(_own: Headers) -> None:
        hub.tokens = {token: value for token, value in hub.tokens.items() if value[0] != "ada"}

    ends: list[Callable[[Headers], object]] = [
        lambda _own: clock.advance(context.settings.grant_s + 1),
        give_to_bob,
        lambda own: client.post("/sign-out", headers=own),
        forget_at_the_hub,
        lambda _own: disable(client, people["root"]),
    ]
    for end in ends:
        own = cookies_of(client, hub, context, "ada")
        place = entered(client, own, f"/dashboards/{dask}/ws")
        headers = {**THERE, "Origin": CONTENT}
        with client.websocket_connect(f"{PREFIX}{place}", headers=dict(headers)) as socket:
            assert socket.receive_json()["path"] == f"{PREFIX}/dashboards/{dask}/ws"
            end(own)
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
            assert closed.value.code == 1008
        assert client.get(place, headers={**THERE, "Sec-Fetch-Mode": "cors"}).status_code in (401, 404)
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"{PREFIX}{place}", headers=dict(headers)):
            raise AssertionError("it was opened")


def test_a_grant_that_is_used_goes_on(
    client: TestClient, context: Context, own: Headers, clock: FakeClock, ray: str
) -> None:
    place = entered(client, own, f"/dashboards/{ray}/x")
    for _ in range(4):
        clock.advance(context.settings.grant_s * 0.7)
        assert client.get(place, headers=THERE).status_code == 200


def test_a_grant_opens_one_thing_of_ones_own(
    client: TestClient, context: Context, own: Headers, people: dict[str, Headers], ray: str
) -> None:
    theirs = make_world(context, "bob", "bobs")
    assert client.get(f"/dashboards/{theirs.cluster}/x", headers=own).status_code == 404
    place = entered(client, own, f"/dashboards/{ray}/x")
    grant = place.split("/")[2]
    for path in (
        f"/content/{grant}/../{theirs.cluster}",
        "/content/-/x",
        "/content/enter/-/x",
        f"/content/{grant}/..%2f..%2fapi/v1/me",
        "/content/x/y",
        "/content/",
    ):
        assert client.get(path, headers=THERE).status_code in (400, 401, 404), path


def test_a_websocket_comes_from_its_own_page_only(client: TestClient, own: Headers, dask: str) -> None:
    place = entered(client, own, f"/dashboards/{dask}/ws")
    for origin in (PORTAL, "http://evil.example", "http://bob.localhost:8000", None):
        headers = {**THERE, **({} if origin is None else {"Origin": origin})}
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"{PREFIX}{place}", headers=dict(headers)):
            raise AssertionError(f"it was opened for {origin}")


def test_each_origin_has_its_own_paths_only(
    client: TestClient, own: Headers, people: dict[str, Headers], ray: str
) -> None:
    """By construction: they are two applications."""
    place = entered(client, own, f"/dashboards/{ray}/x")
    assert client.get(place, headers=own).status_code == 404
    for path in (
        "/",
        "/projects",
        "/api/v1/me",
        "/api/v1/openapi.json",
        "/health",
        "/metrics",
        f"/dashboards/{ray}/x",
        "/sign-out",
    ):
        for headers in (own, people["root"]):
            for method in ("GET", "POST"):
                assert client.request(method, path, headers={**headers, **THERE}).status_code == 404, path


def test_a_rendered_notebook_is_shown_there_and_kept_in_its_sandbox(
    client: TestClient, context: Context, own: Headers, people: dict[str, Headers]
) -> None:
    run = make_world(context, "ada", "adas").run
    folder = outputs.folder(context.settings, run)
    folder.mkdir(parents=True)
    (folder / "notebook.html").write_text("<script>alert(1)</script>")
    (folder / "notebook.ipynb").write_text(json.dumps({"cells": []}))
    path = f"/api/v1/runs/{run}/outputs/notebook.html"
    place = entered(client, own, path)
    answer = client.get(place, headers=THERE)
    assert answer.text == "<script>alert(1)</script>"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert policy.endswith(f"frame-ancestors {PORTAL}")
    kept = client.get(entered(client, own, f"{path}?download"), headers=THERE)
    assert kept.headers["content-disposition"].startswith("attachment")
    # What no browser renders is given to be kept; a token, which no page of others has, reads all.
    inert = client.get(f"/api/v1/runs/{run}/outputs/notebook.ipynb", headers=own)
    assert inert.headers["content-disposition"].startswith("attachment")
    assert client.get(path, headers=people["ada"]).status_code == 200
    assert client.get(path, headers=people["bob"]).status_code == 404


def test_with_one_origin_there_is_a_sandbox_and_no_content_origin(tmp_path: Path) -> None:
    one = Settings(state=tmp_path, inventory=Inventory(), public_url="http://127.0.0.1:8000")
    assert one.addresses.content is None
    assert one.addresses.door("content.127.0.0.1:8000") is None
