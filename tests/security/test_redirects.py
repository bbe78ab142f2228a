"""Where a browser is sent after signing in is a page of ours, whatever the link said."""

from urllib.parse import urljoin, urlsplit

from fastapi.testclient import TestClient

from moorage_service.context import Context
from moorage_service.identity import cookies
from moorage_service.settings import PREFIX
from tests.fakes.hub import FakeHub
from tests.service.conftest import Headers

ELSEWHERE = [
    "//evil.example", "///evil.example", "////evil.example", "\\\\evil.example", "/\\evil.example", "\\/evil.example",
    "http://evil.example", "https:evil.example", "http:/evil.example", "//evil.example\\@{host}", "http://{host}.evil.example/",
    "http://{host}@evil.example/", "//{host}@evil.example", "/%2f%2fevil.example", "%2f%2fevil.example", "/%5cevil.example",
    "http://evil.{name}.example/", "//evil.example/.{name}", "javascript:alert(1)", "data:text/html,x", "\t//evil.example",
    "/\t/evil.example", "/hub/../..//evil.example", "http://ada.{host}.evil.example", "http://evil{name}:1/",
]  # fmt: skip
# For the portal, which takes paths of its own only.
CLIMBING = [
    f"{PREFIX}//evil.example",
    f"{PREFIX}/..//evil.example",
    f"{PREFIX}\\evil.example",
    f"{PREFIX}.evil.example",
    f"{PREFIX}@evil",
]


def stays(location: str, base: str) -> bool:
    """Whether a browser that follows it stays: as browsers read it, which take a backslash for a slash and drop tabs."""
    read = location.translate({ord("\\"): "/", ord("\t"): None, ord("\n"): None, ord("\r"): None})
    target, home = urlsplit(urljoin(base, read)), urlsplit(base)
    return (target.scheme, target.netloc) == (home.scheme, home.netloc)


def test_after_a_sign_in_the_portal_shows_a_page_of_its_own(
    client: TestClient, context: Context, hub: FakeHub, people: dict[str, Headers]
) -> None:
    hub.signed_in = "ada"
    portal = context.settings.addresses.portal
    for wish in (*ELSEWHERE, *CLIMBING):
        wish = wish.format(host=urlsplit(portal).netloc, name=urlsplit(portal).hostname)
        client.cookies.clear()
        asked = client.get("/projects").headers["location"]
        state = dict(pair.split("=") for pair in urlsplit(asked).query.split("&"))["state"]
        back = hub.answer("GET", "/hub/api/oauth2/authorize", urlsplit(asked).query, "", b"").headers["Location"]
        client.cookies.clear()
        cookie = {"Cookie": f"{cookies.STATE}={state}:{wish}"}
        location = client.get(back.removeprefix(PREFIX), headers=cookie).headers["location"]
        assert stays(location, portal), f"{wish!r} leads to {location!r}"


def test_a_redirect_behind_tls_stays_there(client: TestClient, context: Context) -> None:
    """Service and proxy speak plain HTTP with each other, and what a browser says of its scheme is its own word."""
    context.settings.public_url = "https://moorage.example.org"
    for said in ("http", "https,http", "javascript"):
        headers = {"Host": "moorage.example.org", "X-Forwarded-Proto": said}
        location = client.get("/api/v1/me/", headers=headers, follow_redirects=False).headers["location"]
        assert location == f"https://moorage.example.org{PREFIX}/api/v1/me"
