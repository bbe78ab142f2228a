"""The dashboards' proxy leads to the one place that our record names, whatever the request or the dashboard says."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from moorage_service.clusters import operations
from moorage_service.context import Context
from moorage_service.settings import PREFIX, Rates, Settings
from tests.fakes import dashboard
from tests.fakes.hub import FakeHub
from tests.security.test_content_origin import CONTENT, PORTAL, entered
from tests.security.test_disabled_users import cookies_of
from tests.service.clusters_bench import Clusters
from tests.service.conftest import Headers
from tests.service.engines_bench import open_settings
from tests.service.test_clusters_dashboards import clusters, make

__all__ = ["clusters"]

# Address of what, as seen from the path below the dashboard -> of the dashboard, with that very path.
PATHS = [
    "http://169.254.169.254/latest/meta-data", "http:%2f%2f169.254.169.254/", "//169.254.169.254/", "@169.254.169.254/",
    ":80/", "2130706433/", "0x7f000001/", "127.1/", "[::ffff:127.0.0.1]/", "%5b::1%5d/", "localhost:8081/hub/api/", "a;b@c:1/",
"x%23@evil.example/", "x%3f@evil.example/", "x%00y",
]  # fmt: skip
CLIMBING = [
    "../../api/v1/me", "%2e%2e/%2e%2e/api/v1/me", "..%2f..%2fapi/v1/me", "x/%2e./y", "..%5c..%5capi", "x\\..\\y", "..", "%2e%2e",
]  # fmt: skip
# Redirects that a dashboard may answer with: to elsewhere in every form that browsers take, and out of its own path.
REDIRECTS = [
    "http://169.254.169.254/", "http://127.0.0.1:8081/hub/api/users", "http://2130706433/", "http://0x7f.1/", "http://127.1/",
    "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://localhost:8081/", "//169.254.169.254/", "\\\\169.254.169.254\\",
    "/\\/169.254.169.254/", "/\t/169.254.169.254/", "https:/169.254.169.254/", "javascript:alert(1)", "data:text/html,x",
    "../../api/v1/me", "%2e%2e/%2e%2e/api/v1/me", "..\\..\\api\\v1\\me", ".%2E\\%2e./api/v1/me", "a/../../../api/v1/me",
    "/services/moorage/api/v1/me", "/\\services/moorage/api/v1/me", "/hub/home",
]  # fmt: skip


with_and_without_a_content_origin = pytest.mark.parametrize("settings", ["one", "per-user"], indirect=True)


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    with open_settings(port_first=27500) as made:
        made.origins, made.rates = getattr(request, "param", "per-user"), Rates(enabled=False)
        made.public_url = "http://127.0.0.1:8000" if made.origins == "one" else PORTAL
        yield made


@pytest.fixture
def cluster(clusters: Clusters) -> Iterator[str]:
    made, port = make(clusters, "ray")
    with dashboard.serve(port):
        yield made


@pytest.fixture
def place(client: TestClient, context: Context, hub: FakeHub, cluster: str) -> tuple[str, Headers]:
    """Where a browser is shown the dashboard, and what it sends there: at the portal's origin, or at the content origin."""
    own = cookies_of(client, hub, context, "ada")
    if context.settings.addresses.content is None:
        return f"/dashboards/{cluster}", own
    return entered(client, own, f"/dashboards/{cluster}/x").removesuffix("/x"), {
        "Host": "content.localhost:8000",
        "Origin": CONTENT,
    }


def seen_by(answer: Any, asked: str = "") -> dict[str, Any]:
    assert answer.status_code == 200, f"{asked!r}: {answer.text}"
    found: dict[str, Any] = answer.json()
    return found


@with_and_without_a_content_origin
def test_a_path_is_a_path_of_the_dashboard(
    client: TestClient, clusters: Clusters, cluster: str, place: tuple[str, Headers]
) -> None:
    path, headers = place
    port = operations.site_of(clusters.context, clusters.row(cluster)).ports["dashboard"]
    for below in PATHS:
        seen = seen_by(client.get(f"{path}/{below}", headers=headers), below)
        assert seen["headers"]["Host"] == f"127.0.0.1:{port}"
        assert seen["path"].startswith("/")
    seen = seen_by(client.get(f"{path}/x?url=http://169.254.169.254/&host=evil", headers=headers))
    assert seen["path"] == "/x?url=http://169.254.169.254/&host=evil"


def test_a_path_that_climbs_is_refused_for_pages_and_websockets(client: TestClient, place: tuple[str, Headers]) -> None:
    path, headers = place
    for below in CLIMBING:
        if ".." not in below.split("/"):  # those the client itself would climb
            assert client.get(f"{path}/{below}", headers=headers).status_code == 400, below
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(f"{PREFIX}{path}/{below}", headers=dict(headers)),
        ):
            raise AssertionError(f"{below} was opened")


def test_no_header_names_another_target_or_passes_what_is_ours(
    client: TestClient, clusters: Clusters, cluster: str, place: tuple[str, Headers]
) -> None:
    path, headers = place
    port = operations.site_of(clusters.context, clusters.row(cluster)).ports["dashboard"]
    token = operations.credentials_of(clusters.context, clusters.row(cluster))["token"]
    sent = {
        **headers, "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "1.2.3.4", "Forwarded": "host=evil.example",
        "X-Ray-Authorization": "Bearer forged", "Connection": "close, X-Mine", "X-Mine": "1", "TE": "trailers",
        "Proxy-Authorization": "Basic eA==", "Proxy-Connection": "x", "Keep-Alive": "1", "Referer": "http://localhost:8000/secret",
        "Sec-Fetch-Site": "same-origin", "X-Own": "kept",
    }  # fmt: skip
    seen = {name.lower(): value for name, value in seen_by(client.get(f"{path}/x", headers=sent))["headers"].items()}
    assert seen.pop("host") == f"127.0.0.1:{port}"
    assert seen.pop("x-ray-authorization") == f"Bearer {token}"
    assert seen.pop("x-own") == "kept"
    assert set(seen) <= {"accept", "accept-encoding", "user-agent"}, seen
    path, headers = place
    with client.websocket_connect(f"{PREFIX}{path}/ws", headers=sent) as socket:
        seen = {name.lower(): value for name, value in socket.receive_json()["headers"].items()}
    assert seen["host"] == f"127.0.0.1:{port}"
    assert seen["x-ray-authorization"] == f"Bearer {token}"
    assert {"cookie", "x-mine", "referer", "x-forwarded-host", "proxy-authorization"}.isdisjoint(seen)


@with_and_without_a_content_origin
def test_no_redirect_leads_out_of_the_dashboard(client: TestClient, place: tuple[str, Headers]) -> None:
    path, headers = place
    for to in REDIRECTS:
        answer = client.get(f"{path}/redirect", params={"to": to}, headers=headers)
        assert answer.status_code == 302
        location = answer.headers.get("location")
        # A path of Ray's own is shown below the dashboard's, where it may well be nothing.
        assert location is None or (
            location.startswith(f"{PREFIX}{path}/") and ".." not in location and "\\" not in location
        ), to
    assert (
        client.get(f"{path}/redirect", params={"to": "a/../b"}, headers=headers).headers["location"]
        == f"{PREFIX}{path}/b"
    )


def test_what_comes_back_sets_no_cookie_and_no_policy(client: TestClient, place: tuple[str, Headers]) -> None:
    path, headers = place
    answer = client.get(f"{path}/x", headers=headers)
    assert {"set-cookie", "service-worker-allowed", "access-control-allow-origin", "refresh", "link"}.isdisjoint(
        answer.headers
    )
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_cluster_is_asked_for_again_at_every_request(
    client: TestClient, clusters: Clusters, cluster: str, place: tuple[str, Headers]
) -> None:
    path, headers = place
    assert client.delete(f"/api/v1/clusters/{cluster}", headers=clusters.notebook).status_code == 202
    for method in ("GET", "POST", "DELETE"):
        assert client.request(method, f"{path}/x", headers=headers).json()["code"] == "no_dashboard"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"{PREFIX}{path}/ws", headers=dict(headers)):
        raise AssertionError("it was opened")
