"""The hub's own door, with real hub, proxy and service: what a failed sign-in may cost, and signing out everywhere."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorage_hub.login_links import LoginLinks
from moorage_service.settings import PREFIX
from tests.images.places import open_python
from tests.security.canaries import Canaries
from tests.security.installed import Installed, installed
from tests.waiting import eventually

ME = f"{PREFIX}/api/v1/me"
LONG = "a" * (1 << 20)

GUESS = """
import http.client, re, sys, urllib.parse
port, host, name = sys.argv[1:]
for number in range(6):
    headers = {"Host": host, "X-Real-Ip": f"198.51.100.{number}", "X-Forwarded-For": f"198.51.100.{number}"}
    hub = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    hub.request("GET", "/hub/login", headers=headers)
    page = hub.getresponse()
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page.read().decode())[1]
    cookies = "; ".join(each.partition(";")[0] for each in page.headers.get_all("Set-Cookie"))
    form = urllib.parse.urlencode({"username": name, "password": f"guess {number}", "_xsrf": xsrf})
    sent = {**headers, "Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
    hub.request("POST", "/hub/login", body=form, headers=sent)
    answer = hub.getresponse()
    answer.read()
    print(answer.status)
"""

pytestmark = pytest.mark.skipif("os.geteuid() != 0", reason="a second user needs root")


@pytest.fixture(scope="module")
def site(proxy_script: Path, server_python: Path) -> Iterator[Installed]:
    with installed(proxy_script, server_python) as made:
        made.configure(
            hub={"user": "admin", "users": ["bob", "eve"], "sign_in_rate": "5 per minute"},
            service={"seed_starter": False, "session_check_s": 0, "hub_token_cache_s": 0},
        )
        made.up()
        yield made


@pytest.fixture
def admin(site: Installed) -> Iterator[httpx.Client]:
    with site.browser() as browser:
        assert (
            browser.get("/hub/login-once", params={"token": LoginLinks(site.state).create("admin")}).status_code == 200
        )
        yield browser


def password_of(site: Installed, name: str) -> str:
    found = re.search(rf"Added the user {name}.*once: (\S+)", site.printed.read_text())
    assert found is not None
    return found[1]


def try_password(browser: httpx.Client, name: str, password: str) -> httpx.Response:
    page = browser.get("/hub/login")
    assert page.status_code == 200
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
    assert xsrf is not None
    return browser.post("/hub/login", data={"username": name, "password": password, "_xsrf": xsrf[1]})


def enter(browser: httpx.Client, site: Installed, name: str) -> None:
    assert try_password(browser, name, password_of(site, name)).status_code == 200
    assert browser.get(f"{PREFIX}/").status_code == 200
    assert browser.get(ME).json()["user"]["name"] == name


def change(admin: httpx.Client, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    origin = str(admin.base_url).rstrip("/")
    return admin.request(method, f"{PREFIX}/api/v1{path}", json=body, headers={"Origin": origin})


def test_a_user_name_of_a_megabyte_costs_a_line_and_a_refusal(site: Installed) -> None:
    logs = site.state / "logs"
    before = {path: path.stat().st_size for path in logs.glob("*.log")}
    for name, password in ((LONG, "x"), ("admin", LONG), (LONG, LONG)):
        with site.browser() as browser:
            answer = try_password(browser, name, password)
            assert 400 <= answer.status_code < 500
            assert LONG[:100] not in answer.text
            assert browser.get("/hub/health").status_code == 200
    grown = {path.name: path.stat().st_size - size for path, size in before.items()}
    assert max(grown.values()) < 8192, grown
    assert LONG[:100] not in (logs / "hub.log").read_text()


def test_our_own_forms_and_routes_refuse_a_megabyte_of_a_name(site: Installed, admin: httpx.Client) -> None:
    origin = str(admin.base_url).rstrip("/")
    made = change(admin, "POST", "/projects", {"slug": "plain", "manifest": "name: Plain\npython: '3.11'\n"})
    assert made.status_code == 201, made.text
    log = site.state / "logs" / "service.log"
    before = log.stat().st_size
    answer = admin.post(
        f"{PREFIX}/projects/plain/members",
        data={"user": LONG, "role": "viewer"},
        headers={"Origin": origin},
        follow_redirects=False,
    )
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 20_000
    for method, path, body in (
        ("POST", "/limits", {"scope": "user", "name": LONG, "resource": "cpu", "amount": 1}),
        ("POST", "/projects", {"slug": LONG, "manifest": "name: x"}),
        ("PATCH", "/users/bob", {"why": LONG, "uid": 5}),
    ):
        answer = change(admin, method, path, body)
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
        assert len(answer.content) < 5_000, path
    assert log.stat().st_size - before < 8192


def test_guessing_is_stopped_and_shuts_nobody_else_out(site: Installed) -> None:
    with site.browser() as browser:
        statuses = [try_password(browser, "eve", f"guess {number}").status_code for number in range(6)]
        assert statuses == [403] * 5 + [429]
        refused = try_password(browser, "eve", password_of(site, "eve"))  # even the right one, from here, for a minute
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert f"Wait {refused.headers['retry-after']} s" in refused.text
        enter(browser, site, "bob")


def test_no_browser_chooses_the_address_that_its_guesses_count_for(site: Installed) -> None:
    with site.browser() as browser:
        statuses = []
        for number in range(6):
            browser.headers.update(dict.fromkeys(("X-Real-Ip", "X-Forwarded-For"), f"192.0.2.{number}"))
            statuses.append(try_password(browser, "nemo", f"guess {number}").status_code)
    assert statuses == [403] * 5 + [429]


def test_nor_does_a_kernel_that_asks_the_hub_directly(site: Installed) -> None:
    """Another account of this machine, past the proxy."""
    host = httpx.URL(site.url).netloc.decode()
    done = subprocess.run(
        [str(open_python()), "-I", "-S", "-c", GUESS, str(site.settings.hub_port), host, "nautilus"],
        user=65534, group=65534, extra_groups=[], cwd="/", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["403"] * 5 + ["429"], done.stderr


def test_signing_out_at_the_hub_ends_the_portals_session(site: Installed) -> None:
    with site.browser() as browser:
        enter(browser, site, "bob")
        cookie = {"Cookie": "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar)}
        browser.get("/hub/logout")
        assert browser.get(ME).status_code == 401
        with site.browser() as thief:
            assert thief.get(ME, headers=cookie).status_code == 401


def test_signing_out_everywhere_ends_cookies_and_tokens_at_the_hub(site: Installed, admin: httpx.Client) -> None:
    with site.browser() as first, site.browser() as second:
        for browser in (first, second):
            enter(browser, site, "bob")
        xsrf = re.search(r'xsrf_token: "([^"]+)"', first.get("/hub/token").text)
        assert xsrf is not None
        asked = {"scopes": ["access:services!service=moorage"], "note": "mine"}
        made = first.post("/hub/api/users/bob/tokens", json=asked, headers={"X-XSRFToken": xsrf[1]})
        assert made.status_code == 201, made.text
        own = {"Authorization": f"Bearer {made.json()['token']}"}
        with site.browser() as anywhere:
            assert anywhere.get(ME, headers=own).status_code == 200
            assert change(admin, "POST", "/users/bob/sign-out", {"why": "lost"}).status_code == 204
            assert anywhere.get(ME, headers=own).status_code == 401
        for browser in (first, second):
            assert browser.get(ME).status_code == 401
            assert "/hub/login" in str(browser.get("/hub/home").url)
        enter(first, site, "bob")
    refused = admin.post("/hub/api/sign-out/bob")
    assert refused.status_code == 403


def test_a_disabled_user_is_out_at_both(site: Installed, admin: httpx.Client) -> None:
    with site.browser() as browser:
        enter(browser, site, "bob")
        assert change(admin, "PATCH", "/users/bob", {"active": False}).status_code == 200
        try:
            assert browser.get(ME).status_code == 401
            assert "/hub/login" in str(browser.get("/hub/home").url)
            assert try_password(browser, "bob", password_of(site, "bob")).status_code == 403
            assert browser.get(ME).status_code == 401
        finally:
            assert change(admin, "PATCH", "/users/bob", {"active": True}).status_code == 200
        eventually(lambda: browser.get(f"{PREFIX}/").is_success, what="bob's return")


def test_no_secret_of_the_hub_is_found_in_logs_or_process_lists(site: Installed, admin: httpx.Client) -> None:
    """After all of the above; a link that was used, a password that was tried, and everything below `secrets/`."""
    canaries = Canaries()
    for path in (site.state / "secrets").iterdir():
        if path.is_file():
            canaries.add(path.name, path.read_text().strip())
    for name in ("bob", "eve"):
        canaries.add(f"{name}'s password", password_of(site, name))
    link = LoginLinks(site.state).create("admin")
    canaries.add("a login link", link)
    with site.browser() as browser:
        assert browser.get("/hub/login-once", params={"token": link}).status_code == 200
        assert browser.get("/hub/login-once", params={"token": link}).status_code == 403
        canaries.add("a session", str(browser.cookies["moorage-session"]))
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            canaries.look(f"command line {process.name}", (process / "cmdline").read_bytes())
    assert canaries.look_in_files(site.state / "logs") >= 2
    for page in ("/hub/home", "/hub/token", "/hub/admin", f"{PREFIX}/admin/users", f"{PREFIX}/admin/audit"):
        canaries.look(page, admin.get(page).content)
    assert canaries.seen == set()
