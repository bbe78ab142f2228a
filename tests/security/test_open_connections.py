"""What is open when its user signs out, is signed out, or is disabled, does not stay open."""

from collections.abc import AsyncIterator, Callable

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from moorage_service.clusters.sockets import Watch
from moorage_service.context import Context
from moorage_service.settings import PREFIX
from tests.fakes.hub import FakeHub
from tests.security.test_disabled_users import cookies_of, disable
from tests.service.conftest import Headers
from tests.service.test_clusters_dashboards import clusters, dask, settings

__all__ = ["clusters", "dask", "settings"]

End = Callable[[TestClient, FakeHub, dict[str, Headers], Headers], None]


def signs_out(client: TestClient, hub: FakeHub, people: dict[str, Headers], own: Headers) -> None:
    assert client.post("/sign-out", headers=own).status_code == 303


def signs_out_at_the_hub(client: TestClient, hub: FakeHub, people: dict[str, Headers], own: Headers) -> None:
    hub.tokens = {token: value for token, value in hub.tokens.items() if value[0] != "ada"}


def is_signed_out(client: TestClient, hub: FakeHub, people: dict[str, Headers], own: Headers) -> None:
    answer = client.post("/api/v1/users/ada/sign-out", headers=people["root"], json={})
    assert answer.status_code == 204


def is_disabled(client: TestClient, hub: FakeHub, people: dict[str, Headers], own: Headers) -> None:
    disable(client, people["root"])


def has_the_cluster_stopped(client: TestClient, hub: FakeHub, people: dict[str, Headers], own: Headers) -> None:
    cluster = client.get("/api/v1/clusters", headers=people["ada"]).json()[0]["id"]
    assert client.delete(f"/api/v1/clusters/{cluster}", headers=people["ada"]).status_code == 202


@pytest.mark.parametrize("end", [signs_out, signs_out_at_the_hub, is_signed_out, is_disabled, has_the_cluster_stopped])
def test_an_open_dashboard_closes_when_its_user(
    client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers], dask: str, end: End
) -> None:
    context.settings.session_check_s, context.settings.socket_check_s = 0, 0.05
    own = cookies_of(client, hub, context, "ada")
    with client.websocket_connect(f"{PREFIX}/dashboards/{dask}/ws", headers=dict(own)) as socket:
        socket.receive_json()
        socket.send_text("still there")
        assert socket.receive_text() == "still there"
        end(client, hub, people, own)
        assert closed_with(socket) == 1008


def closed_with(socket: WebSocketTestSession) -> int:
    with pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_text()
    return caught.value.code


async def test_an_endless_answer_ends_when_its_reader_may_not_have_it_any_more() -> None:
    """A page that streams is a connection, too."""
    asked = iter([True, True, False])

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"piece"

    watch = Watch(lambda: next(asked), every_s=0)
    assert [piece async for piece in watch.guard(pieces())] == [b"piece", b"piece"]
