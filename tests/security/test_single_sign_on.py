"""Signing in through an OpenID provider, all the way into the portal; and everything that must not make one user of another."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from moorage_service.settings import PREFIX
from tests.fakes.openid_provider import OpenIdProvider, serving
from tests.security.canaries import Canaries
from tests.security.installed import Installed, installed
from tests.waiting import eventually

ME = f"{PREFIX}/api/v1/me"


@dataclass
class Site:
    installed: Installed
    provider: OpenIdProvider
    client_secret: str

    def sign_in(self, browser: httpx.Client, sub: str) -> httpx.Response:
        """From the portal's first page to where the browser ends up: the portal, or a refusal."""
        page = browser.get(f"{PREFIX}/")
        if "oauth2/authorize" not in str(page.url):  # the hub's own page, with its button
            page = browser.get("/hub/oauth_login", params={"next": f"{PREFIX}/"})
        assert str(page.url).startswith(self.provider.url), page.text
        return browser.post(str(page.url), data={"sub": sub})

    def comes_as(self, sub: str, **claims: Any) -> httpx.Response:
        self.provider.account(sub, **claims)
        with self.installed.browser() as browser:
            return self.sign_in(browser, sub)


def person(name: str, *groups: str, verified: bool = True) -> dict[str, Any]:
    return {"email": name, "email_verified": verified, "groups": list(groups), "name": "Somebody"}


def is_out(browser: httpx.Client) -> bool:
    return browser.get(ME).status_code == 401


@pytest.fixture(scope="module")
def site(proxy_script: Path, server_python: Path) -> Iterator[Site]:
    with serving() as provider, installed(proxy_script, server_python) as made:
        client_id, secret = provider.register(f"{made.url}/hub/oauth_callback")
        single_sign_on = {
            "client_id": client_id, "client_secret": secret, **provider.endpoints(), "scope": ["openid", "email", "profile"],
            "username_claim": "email", "manage_groups": True, "auth_state_groups_key": "oauth_user.groups",
            "allowed_groups": ["lab"], "admin_groups": ["lab-admins"],
        }  # fmt: skip
        made.configure(
            hub={
                "authenticator": "generic-oauth", "authenticator_settings": {"GenericOAuthenticator": single_sign_on},
                "allowed_email_domains": ["example.org"], "identity_check_s": 1,
            },
            service={"seed_starter": False, "session_check_s": 0, "hub_token_cache_s": 0},
        )  # fmt: skip
        made.up()
        yield Site(made, provider, secret)


def test_a_person_signs_in_with_the_groups_and_the_role_that_the_provider_tells(site: Site) -> None:
    site.provider.account("s-ada", **person("ada@example.org", "lab"))
    site.provider.account("s-root", **person("root@example.org", "lab-admins"))
    for sub, name, groups, admin in (
        ("s-ada", "ada@example.org", ["lab"], False),
        ("s-root", "root@example.org", ["lab-admins"], True),
    ):
        with site.installed.browser() as browser:
            landed = site.sign_in(browser, sub)
            assert (landed.status_code, urlsplit(str(landed.url)).path) == (200, f"{PREFIX}/"), landed.text
            assert name in landed.text
            me = browser.get(ME).json()
            assert me["user"] | {"uid": 0, "id": ""} == {
                "id": "", "name": name, "admin": admin, "groups": groups, "uid": 0, "active": True,
            }  # fmt: skip
            assert browser.get(f"{PREFIX}/api/v1/limits").status_code == (200 if admin else 403)


def test_who_is_in_no_allowed_group_stays_out(site: Site) -> None:
    refused = site.comes_as("s-guest", **person("guest@example.org", "visitors"))
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (person("mallory@example.org", "lab", verified=False), "verified"),
        ({**person("mallory@example.org", "lab"), "email_verified": "no"}, "verified"),
        (person("ada@example.org.evil.net", "lab"), "domains"),
        (person("ada@evil-example.org", "lab"), "domains"),
        (person("ada@example.org@evil.net", "lab"), "domains"),
        (person("ada@exаmple.org", "lab"), "name"),  # a Cyrillic letter  # noqa: RUF001
        (person("ada@example.org ", "lab"), "name"),
        (person("\u212a@example.org", "lab"), "name"),  # the Kelvin sign, which is "k" in lower case
    ],
)
def test_an_address_that_looks_like_one_of_ours_is_none(site: Site, claims: dict[str, Any], words: str) -> None:
    refused = site.comes_as("s-mallory", **claims)
    assert refused.status_code == 403, refused.text
    assert words in refused.text


def test_a_name_that_is_somebodys_is_no_other_accounts(site: Site) -> None:
    """An address given again at the provider, or a name that was chosen there, in whatever case."""
    site.comes_as("s-ada", **person("ada@example.org", "lab"))
    for name in ("ada@example.org", "ADA@example.org"):
        refused = site.comes_as("s-other", **person(name, "lab", "lab-admins"))
        assert refused.status_code == 403
        assert "belongs to another account" in refused.text
    again = site.comes_as("s-ada", **person("Ada@example.org", "lab"))
    assert again.status_code == 200


def test_a_sign_in_begun_in_another_browser_is_not_finished(site: Site) -> None:
    """Somebody's code, or a link with one, signs nobody else in: state and PKCE."""
    site.provider.account("s-ada", **person("ada@example.org", "lab"))
    with site.installed.browser() as browser, site.installed.browser() as other:
        page = browser.get("/hub/oauth_login", params={"next": f"{PREFIX}/"})
        asked = parse_qs(urlsplit(str(page.url)).query)
        assert (asked["code_challenge_method"], asked["response_type"]) == (["S256"], ["code"])
        back = browser.post(str(page.url), data={"sub": "s-ada"}, follow_redirects=False).headers["location"]
        assert other.get(back).status_code == 400
        other.get("/hub/oauth_login")
        assert other.get(back).status_code == 400
        assert other.get(ME).status_code == 401
        assert browser.get(back).status_code in (200, 404)  # the code itself was good
        assert browser.get("/hub/home").status_code == 200


def test_who_is_removed_at_the_provider_or_from_the_group_is_out(site: Site) -> None:
    for sub in ("s-gone", "s-moved"):
        site.provider.account(sub, **person(f"{sub}@example.org", "lab"))
        with site.installed.browser() as browser:
            assert site.sign_in(browser, sub).status_code == 200
            assert browser.get(ME).status_code == 200
            if sub == "s-gone":
                site.provider.revoke(sub)
            else:
                site.provider.account(sub, **person(f"{sub}@example.org", "others"))
            eventually(partial(is_out, browser), what=f"the end of {sub}'s session")


def test_a_user_unlinked_by_an_admin_may_have_a_new_account(site: Site) -> None:
    assert site.comes_as("s-old", **person("eve@example.org", "lab")).status_code == 200
    assert site.comes_as("s-new", **person("eve@example.org", "lab")).status_code == 403
    identities = site.installed.state / "secrets" / "identities.json"
    assert identities.stat().st_mode & 0o077 == 0
    unlink = [*site.installed.command, "user", "unlink", "eve@example.org", "--state", str(site.installed.state)]
    assert "Unlinked eve@example.org" in site.installed.run(unlink)
    assert site.comes_as("s-new", **person("eve@example.org", "lab")).status_code == 200
    assert site.comes_as("s-old", **person("eve@example.org", "lab")).status_code == 403


def test_the_provider_that_does_not_answer_signs_nobody_out(site: Site) -> None:
    site.provider.account("s-stays", **person("stays@example.org", "lab"))
    log = site.installed.state / "logs" / "hub.log"
    with site.installed.browser() as browser:
        assert site.sign_in(browser, "s-stays").status_code == 200
        with site.provider.away():
            eventually(lambda: browser.get(ME).is_success and re.search("can't be asked about stays", log.read_text()))
            assert browser.get(ME).status_code == 200


def test_no_secret_of_the_sign_in_is_found_in_logs_or_pages(site: Site) -> None:
    """After all of the above: the client's secret, a code that was used, what the provider gave."""
    canaries = Canaries()
    canaries.add("the client's secret", site.client_secret)
    site.provider.account("s-ada", **person("ada@example.org", "lab"))
    with site.installed.browser() as browser:
        page = browser.get("/hub/oauth_login", params={"next": f"{PREFIX}/"})
        back = browser.post(str(page.url), data={"sub": "s-ada"}, follow_redirects=False).headers["location"]
        canaries.add("a code", parse_qs(urlsplit(back).query)["code"][0])
        with site.installed.browser() as other:
            assert other.get(back).status_code == 400
        assert browser.get(back).status_code == 200
        for path in (f"{PREFIX}/", ME, "/hub/home", "/hub/token"):
            canaries.look(path, browser.get(path).content)
    assert canaries.look_in_files(site.installed.state / "logs") >= 2
    assert canaries.seen == set()
