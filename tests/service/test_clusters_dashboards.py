"""Dashboards through our proxy: whose they are, what goes there, what comes back, and what their pages may do."""

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from starlette.websockets import WebSocketDisconnect

from moorage_service.clusters import operations
from moorage_service.context import Context
from moorage_service.identity import cookies, sessions
from moorage_service.settings import PREFIX, Settings
from moorage_service.store.tables import ClusterRow, UserRow
from tests.fakes import dashboard
from tests.fakes.hub import FakeHub
from tests.service.clusters_bench import Clusters, open_clusters
from tests.service.conftest import Headers
from tests.service.engines_bench import open_settings


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=26800) as made:
        yield made


@pytest.fixture
def clusters(client: TestClient, context: Context, people: dict[str, Headers]) -> Iterator[Clusters]:
    """No process is started: the port block is given, and the dashboard is a stand-in on its port."""
    assert "ada" in people
    with open_clusters(client, context) as made:
        yield made


def make(clusters: Clusters, engine: str) -> tuple[str, int]:
    cluster = clusters.post(engine=engine)["id"]
    with clusters.context.database.begin() as session:
        session.get_one(ClusterRow, cluster).port_block = 3
    return cluster, operations.site_of(clusters.context, clusters.row(cluster)).ports["dashboard"]


@pytest.fixture
def ray(clusters: Clusters) -> Iterator[str]:
    cluster, port = make(clusters, "ray")
    with dashboard.serve(port):
        yield cluster


@pytest.fixture
def dask(clusters: Clusters) -> Iterator[str]:
    cluster, port = make(clusters, "dask")
    with dashboard.serve(port):
        yield cluster


def test_ray_is_asked_below_its_root_with_its_token_added_and_ours_kept_back(
    client: TestClient, clusters: Clusters, ray: str, ada: Headers
) -> None:
    sent = {**ada, "Cookie": "a=b", "X-Ray-Authorization": "Bearer forged", "Accept": "text/html"}
    answer = client.get(f"/dashboards/{ray}/api/jobs%2Fx?limit=1", headers=sent)
    assert answer.status_code == 200
    seen = answer.json()
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert seen["path"] == "/api/jobs%2Fx?limit=1"
    token = operations.credentials_of(clusters.context, clusters.row(ray))["token"]
    assert headers["x-ray-authorization"] == f"Bearer {token}"
    assert not {"authorization", "cookie"} & set(headers)


def test_dask_is_asked_below_its_prefix(client: TestClient, dask: str, ada: Headers) -> None:
    assert client.get(f"/dashboards/{dask}/status", headers=ada).json()["path"] == f"{PREFIX}/dashboards/{dask}/status"


def test_its_pages_can_reach_nothing_but_themselves(client: TestClient, ray: str, ada: Headers) -> None:
    headers = client.get(f"/dashboards/{ray}/", headers=ada).headers
    assert headers["x-own"] == "kept"
    assert not {"set-cookie", "service-worker-allowed", "access-control-allow-origin"} & set(headers)
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    for name in ("script-src", "connect-src", "form-action", "img-src"):
        places = [place for place in policy[name].split() if not re.match(r"'|data:|blob:", place)]
        assert all(f"{PREFIX}/dashboards/{ray}/" in place for place in places)
    assert policy["worker-src"] == policy["frame-src"] == policy["base-uri"] == "'none'"
    assert "allow-popups" not in policy["sandbox"]


@pytest.mark.parametrize(
    ("to", "follows"),
    [
        ("/services/moorage/api/v1/me", None),
        ("http://elsewhere/", None),
        ("//elsewhere/x", None),
        ("../../api/v1/me", None),
        ("workers", "workers"),
        ("./a/../b", "b"),
    ],
)
def test_a_redirect_out_of_a_dashboard_is_not_passed_on(
    client: TestClient, dask: str, ada: Headers, to: str, follows: str | None
) -> None:
    answer = client.get(f"/dashboards/{dask}/redirect", params={"to": to}, headers=ada)
    assert answer.headers.get("location") == (None if follows is None else f"{PREFIX}/dashboards/{dask}/{follows}")


def test_only_its_owner_and_admins_see_it(client: TestClient, ray: str, people: dict[str, Headers]) -> None:
    path = f"/dashboards/{ray}/"
    assert client.get(path, headers=people["root"]).status_code == 200
    assert client.get(path, headers=people["bob"]).status_code == 404
    assert client.get(path).status_code == 401
    assert (
        client.get(path, headers={"Accept": "text/html"}).headers["location"].startswith("http://127.0.0.1:8000/hub/")
    )


def test_a_path_that_climbs_is_refused(client: TestClient, ray: str, ada: Headers) -> None:
    assert client.get(f"/dashboards/{ray}/static/%2e%2e/%2e%2e/x", headers=ada).status_code == 400


def test_a_path_whose_own_letters_are_encoded_is_refused(client: TestClient, ray: str, ada: Headers) -> None:
    answer = client.get(f"/dash%62oards/{ray}/api", headers=ada)
    assert (answer.status_code, answer.json()["field"]) == (400, "path")


def test_a_dashboard_that_is_away_says_so(client: TestClient, clusters: Clusters, ada: Headers) -> None:
    cluster, _ = make(clusters, "ray")
    answer = client.get(f"/dashboards/{cluster}/", headers=ada)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    clusters.client.delete(f"/api/v1/clusters/{cluster}", headers=clusters.notebook)
    assert client.get(f"/dashboards/{cluster}/", headers=ada).json()["code"] == "no_dashboard"


def test_the_short_address_leads_to_the_first_page(client: TestClient, dask: str, ada: Headers) -> None:
    assert client.get(f"/dashboards/{dask}", headers=ada).headers["location"] == f"{PREFIX}/dashboards/{dask}/status"


def test_a_websocket_passes_both_ways(client: TestClient, dask: str, ada: Headers) -> None:
    with client.websocket_connect(
        f"{PREFIX}/dashboards/{dask}/status/ws?x=1", subprotocols=["bokeh", "t"], headers=dict(ada)
    ) as socket:
        assert socket.accepted_subprotocol == "bokeh"
        seen = socket.receive_json()
        assert seen["path"] == f"{PREFIX}/dashboards/{dask}/status/ws?x=1"
        assert "authorization" not in {name.lower() for name in seen["headers"]}
        socket.send_text("there")
        assert socket.receive_text() == "there"
        socket.send_bytes(b"\x00\xff")
        assert socket.receive_bytes() == b"\x00\xff"


def test_a_websocket_of_a_stranger_or_of_another_site_is_refused(
    client: TestClient, context: Context, hub: FakeHub, dask: str, people: dict[str, Headers]
) -> None:
    with context.database.begin() as session:
        user = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        token = people["ada"]["Authorization"].split()[1]
        cookie = sessions.create(
            session, user_id=user.id, sealed_token=context.vault.seal(token), now=context.clock(), lasts_s=60
        )
    own = {"Cookie": f"{cookies.SESSION}={cookie}", "Origin": "http://127.0.0.1:8000"}
    with client.websocket_connect(f"{PREFIX}/dashboards/{dask}/ws", headers=dict(own)):
        pass
    for headers in ({}, people["bob"], {**own, "Origin": "http://evil.example"}, {"Cookie": own["Cookie"]}):
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(f"{PREFIX}/dashboards/{dask}/ws", headers=dict(headers)),
        ):
            pass


def test_a_change_from_another_site_is_refused(
    client: TestClient, context: Context, ray: str, people: dict[str, Headers]
) -> None:
    with context.database.begin() as session:
        user = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        token = people["ada"]["Authorization"].split()[1]
        cookie = sessions.create(
            session, user_id=user.id, sealed_token=context.vault.seal(token), now=context.clock(), lasts_s=60
        )
    headers = {"Cookie": f"{cookies.SESSION}={cookie}", "Origin": "http://evil.example"}
    assert client.post(f"/dashboards/{ray}/api/jobs/", headers=headers, json={}).status_code == 403
    answer = client.post(
        f"/dashboards/{ray}/api/jobs/", headers={**headers, "Origin": "http://127.0.0.1:8000"}, content="body"
    )
    assert answer.json()["body"] == "body"
