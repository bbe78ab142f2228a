"""In a real browser, with a real hub and two users' servers: what a page of one user's server can reach of anybody else's."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from moorage_hub.accounts import Accounts
from tests.hub.driver import RunningHub
from tests.security.test_redirects import ELSEWHERE, stays
from tests.service.test_portal_browser import FLAGS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="several users need root")


@pytest.fixture(scope="module")
def hub(proxy_script: Path, server_python: Path) -> Iterator[RunningHub]:
    """With a server of ada's and one of bob's."""
    folder = Path(tempfile.mkdtemp(prefix="moorage-origins-"))
    folder.chmod(0o755)
    running = RunningHub(folder / "state", proxy_script, server_python)
    try:
        with running.serving():
            accounts = Accounts(running.state, "admin")
            for name in ("ada", "bob"):
                accounts.add(name)
                assert running.start_notebook(running.portal_token(name), name)[-1].get("ready")
            yield running
    finally:
        running.end_workloads()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Browser, hub: RunningHub) -> Iterator[Page]:
    """An admin's browser, signed in at the hub, at ada's server and at bob's; its tab shows a page of ada's server."""
    context = browser.new_context()
    context.set_default_timeout(30_000)
    tab = context.new_page()
    tab.goto(hub.login_link())
    for name in ("bob", "ada"):
        server = hub.settings.addresses.server(name, "starter")
        tab.goto(f"{server}files/hello.txt")
        tab.get_by_role("button", name="Authorize").click()  # the hub asks before it lets an admin in
        tab.wait_for_url("**/hello.txt**")
        assert "hello" in tab.content()
        tab.goto(f"{server}nothing-here")  # a page of the server's, in no sandbox of its own
        assert urlsplit(tab.evaluate("window.origin")).hostname == f"{name}.localhost"
    yield tab
    context.close()


def places(hub: RunningHub) -> dict[str, str]:
    """What is worth having: a page or an answer that this very browser's person is given when they go there themselves."""
    addresses = hub.settings.addresses
    port = urlsplit(addresses.portal).port
    return {
        "hub": addresses.hub("/token"),
        "hub api": addresses.hub("/api/users"),
        "portal": addresses.page("/api/v1/me"),
        "bob": f"http://bob.localhost:{port}/user/bob/starter/api/contents",
    }


FETCH = """async url => {
  try { const r = await fetch(url, {credentials: 'include'}); return [r.status, (await r.text()).length]; }
  catch (error) { return error.name; }
}"""
CHANGE = """async ([url, method]) => {
  try { return (await fetch(url, {method, credentials: 'include', body: '{}', headers: {'Content-Type': 'application/json'}})).status; }
  catch (error) { return error.name; }
}"""
FRAME = """url => new Promise(done => {
  const frame = document.createElement('iframe');
  frame.onload = () => setTimeout(() => {
    try { done(frame.contentDocument ? 'read: ' + frame.contentDocument.documentElement.innerHTML.length : 'closed'); }
    catch (error) { done(error.name); }
  }, 50);
  frame.src = url; document.body.append(frame);
})"""
READ_POPUP = (
    """() => { try { return 'read: ' + window.popped.document.title; } catch (error) { return error.name; } }"""
)


def test_it_may_read_its_own_origin(page: Page) -> None:
    """So that what follows fails for the right reason."""
    assert page.evaluate(FETCH, "/user/ada/starter/nothing-here")[0] in (403, 404)  # an answer that it may read
    assert page.evaluate(FRAME, "about:blank").startswith("read: ")


@pytest.mark.parametrize("place", ["hub", "hub api", "portal", "bob"])
def test_it_can_fetch_nothing_of_others(page: Page, hub: RunningHub, place: str) -> None:
    assert page.evaluate(FETCH, places(hub)[place]) == "TypeError"  # the browser kept the answer back
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert page.evaluate(CHANGE, [places(hub)[place], method]) == "TypeError"


@pytest.mark.parametrize("place", ["hub", "portal", "bob"])
def test_it_can_read_no_frame_of_others(page: Page, hub: RunningHub, place: str) -> None:
    assert page.evaluate(FRAME, places(hub)[place]) in ("closed", "SecurityError")


@pytest.mark.parametrize("place", ["hub", "portal", "bob"])
def test_it_can_read_no_window_of_others(page: Page, hub: RunningHub, place: str) -> None:
    with page.context.expect_page() as opened:
        page.evaluate("url => { window.popped = window.open(url) }", places(hub)[place])
    popup = opened.value
    popup.wait_for_load_state()
    assert popup.evaluate("location.origin") != page.evaluate("location.origin")
    assert page.evaluate(READ_POPUP) == "SecurityError"
    popup.close()


def test_it_sees_and_sets_no_cookie_of_others(page: Page, hub: RunningHub) -> None:
    host = hub.settings.addresses.host
    page.evaluate("domain => { document.cookie = 'jupyterhub-hub-login=forged; path=/hub/; domain=' + domain }", host)
    page.evaluate("domain => { document.cookie = 'moorage-session=forged; path=/; domain=.' + domain }", host)
    kept = page.context.cookies()
    assert not [cookie for cookie in kept if cookie["value"] == "forged"]
    assert {"localhost", "ada.localhost", "bob.localhost"} == {cookie["domain"] for cookie in kept}  # host-only, all
    assert "bob" not in page.evaluate("document.cookie")
    for cookie in kept:
        if cookie["name"] != "_xsrf":
            assert cookie["httpOnly"], cookie["name"]


def test_a_websocket_of_anothers_server_is_refused(page: Page, hub: RunningHub) -> None:
    address = places(hub)["bob"].replace("http://", "ws://").replace("api/contents", "api/events/subscribe")
    script = """url => new Promise(done => { const socket = new WebSocket(url);
        socket.onopen = () => done('open'); socket.onerror = () => done('refused'); })"""
    assert page.evaluate(script, address) == "refused"


def test_the_hub_answers_at_its_own_name_only(hub: RunningHub) -> None:
    addresses, port = hub.settings.addresses, hub.settings.port
    for host, status, location in (
        (f"127.0.0.1:{port}", 302, addresses.hub("/login")),  # a person who typed the machine's other name
        (f"ada.localhost:{port}", 302, addresses.hub("/login")),
        (f"evil.example:{port}", 421, None),
        (f"localhost.evil.example:{port}", 421, None),
        (f"content.localhost:{port}", None, None),  # the service's alone
    ):
        answer = httpx.get(f"http://127.0.0.1:{port}/hub/login", headers={"Host": host}, trust_env=False, timeout=60)
        assert status is None or (answer.status_code, answer.headers.get("location")) == (status, location), host
        assert "username_input" not in answer.text, host
    path = "/hub/user-redirect/git-pull?repo=https://elsewhere.example/repo"
    answer = httpx.get(
        f"http://127.0.0.1:{port}{path}", headers={"Host": f"127.0.0.1:{port}"}, trust_env=False, timeout=60
    )
    assert answer.headers["location"] == f"{addresses.portal}{path}"
    refused = httpx.post(
        f"http://127.0.0.1:{port}/hub/login", headers={"Host": f"ada.localhost:{port}"}, trust_env=False
    )
    assert refused.status_code == 421


def test_after_a_sign_in_the_hub_stays_on_its_own_host(hub: RunningHub) -> None:
    addresses = hub.settings.addresses
    with hub.signed_in() as browser:
        browser.follow_redirects = False
        for wish in ELSEWHERE:
            wish = wish.format(host=addresses.netloc, name=addresses.host)
            path = f"/hub/login?next={quote(wish, safe='')}"
            location = browser.get(path).headers["location"]
            assert stays(urljoin(addresses.hub("/login"), location), addresses.portal), (
                f"{path!r} leads to {location!r}"
            )
