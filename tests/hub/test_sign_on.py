"""Single sign-on by settings: what is refused before anything starts, and what is filled in."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from traitlets.config import Config

from moorage_hub.errors import BadAccount, BadSettings
from moorage_hub.guard import IdentityGuard
from moorage_hub.identities import Identities
from moorage_hub.install import install
from moorage_hub.settings import load

GOOD = {
    "client_id": "c", "client_secret": "hush", "allow_all": True, "authorize_url": "https://id.example/authorize",
    "token_url": "https://id.example/token", "userdata_url": "https://id.example/userinfo",
}  # fmt: skip


def configured(state: Path, values: dict[str, Any], *, name: str = "generic-oauth", **hub: Any) -> Config:
    classes = {"generic-oauth": "GenericOAuthenticator", "auth0": "Auth0OAuthenticator"}
    settings = {"authenticator": name, "authenticator_settings": {classes.get(name, "OAuthenticator"): values}, **hub}
    (state / "settings.yaml").write_text(yaml.safe_dump({"hub": settings}))
    c = Config()
    install(c, load(state))
    return c


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        *[
            ({"username_claim": claim}, f"username_claim '{claim}' is a name that users of many providers choose")
            for claim in ("name", "nickname", "preferred_username", "username")
        ],
        ({"token_url": "http://id.example/token"}, "token_url 'http://id.example/token' is not encrypted"),
        ({"validate_server_cert": False}, "validate_server_cert is off"),
        ({"client_secret": ""}, "client_secret is missing"),
        ({"allow_all": False}, "nobody may sign in"),
        ({"admin_groups": ["ops"]}, "manage_groups"),
        ({"username_claim": 7}, "a value can't be used"),
    ],
)
def test_what_lets_people_become_others_or_keeps_everybody_out_is_refused_at_start(
    state: Path, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadSettings) as caught:
        configured(state, {**GOOD, **values})
    assert sentence in str(caught.value)
    assert "settings.yaml" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_there_must_be_such_a_class(state: Path) -> None:
    for name in ("no-such", "moorage_hub.settings.HubSettings", "no.such.Class"):
        with pytest.raises(BadSettings, match=name.rpartition(".")[2]):
            configured(state, GOOD, name=name)


def test_a_chosen_name_is_taken_where_the_admin_vouches_for_it(state: Path) -> None:
    values = {**GOOD, "username_claim": "preferred_username"}
    c = configured(state, values, username_claim_is_unique=True)
    assert c.GenericOAuthenticator.username_claim == "preferred_username"


def test_left_out_the_name_is_the_providers_own_for_the_account(state: Path) -> None:
    """Where oauthenticator's default is a name that people choose: Azure's `name`, the generic `username`."""
    for name, expected in (
        ("generic-oauth", "sub"),
        ("azuread", "sub"),
        ("github", "login"),
        ("google", "email"),
        ("auth0", "email"),
    ):
        c = configured(state, {**GOOD, "auth0_domain": "x.auth0.com"} if name == "auth0" else GOOD, name=name)
        made = c.JupyterHub.authenticator_class(config=c)
        assert made.username_claim == expected, name
        assert isinstance(made, IdentityGuard)


def test_the_hub_asks_the_provider_again_and_is_called_back_at_the_public_address(state: Path) -> None:
    c = configured(state, GOOD, public_url="https://moorage.example.org", identity_check_s=90)
    made = c.JupyterHub.authenticator_class(config=c)
    assert made.oauth_callback_url == "https://moorage.example.org/hub/oauth_callback"
    assert (made.auth_refresh_age, made.auth_refresh_strict, made.enable_auth_state, made.enable_pkce) == (
        90,
        True,
        True,
        True,
    )
    assert len(c.CryptKeeper["keys"][0]) == 64


def test_a_name_is_linked_once(state: Path) -> None:
    identities = Identities(state)
    assert identities.link("ada", "1")
    assert not identities.link("ada", "2")
    assert identities.is_anothers("ada", "2")
    assert not identities.is_anothers("ada", "1")
    assert not identities.is_anothers("bob", "2")
    identities.unlink("ada")
    assert identities.link("ada", "2")
    with pytest.raises(BadAccount, match="nothing to unlink"):
        identities.unlink("bob")


def test_the_examples_of_the_admins_page_work(state: Path) -> None:
    section = (
        (Path(__file__).parents[2] / "docs" / "admin.md")
        .read_text()
        .partition("### Single sign-on")[2]
        .partition("\n### ")[0]
    )
    examples = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    made = []
    for example in examples:
        (state / "settings.yaml").write_text(example)
        c = Config()
        install(c, load(state))
        made.append(c.JupyterHub.authenticator_class(config=c))
    assert [type(each).__name__ for each in made] == [
        "GuardedGenericOAuthenticator", "GuardedGitHubOAuthenticator", "GuardedGoogleOAuthenticator",
    ]  # fmt: skip
    generic, github, google = made
    assert (generic.username_claim, generic.admin_groups, generic.allowed_email_domains) == (
        "email",
        {"lab-admins"},
        ["example.org"],
    )
    assert (github.username_claim, github.allowed_organizations) == ("login", {"my-lab"})
    assert google.allowed_email_domains == ["example.org"]
