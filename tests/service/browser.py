"""A browser that signs in to the portal."""

from urllib.parse import urlsplit

from fastapi.testclient import TestClient

from moorage_service.settings import PREFIX
from tests.fakes.hub import FakeHub


def sign_in(client: TestClient, hub: FakeHub, name: str, after: str = f"{PREFIX}/admin/limits") -> str:
    """As a browser does: the page, the hub, back with a code. Returns where it ends; the client keeps the cookie."""
    hub.signed_in = name
    answer = client.get(after.removeprefix(PREFIX))
    assert answer.status_code == 302, answer.text
    target = urlsplit(answer.headers["location"])
    assert target.path == "/hub/api/oauth2/authorize"
    back = hub.answer("GET", target.path, target.query, "", b"").headers["Location"]
    answer = client.get(back.removeprefix(PREFIX))
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]
