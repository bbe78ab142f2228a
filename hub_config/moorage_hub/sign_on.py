"""Single sign-on by settings: which class, and whether what was set for it is safe. Asked before anything starts."""

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.auth import Authenticator
from oauthenticator.oauth2 import OAuthenticator
from traitlets import TraitError, import_item
from traitlets.config import Config

# Claims that at most providers the user writes, or that another account may have tomorrow.
CHOSEN = frozenset({
    "name", "nickname", "preferred_username", "username", "user_name", "given_name", "family_name", "display_name",
    "displayName", "profile",
})  # fmt: skip
# Of these providers a name is one account's at a time.
UNIQUE_OF = frozenset({
    "BitbucketOAuthenticator", "CILogonOAuthenticator", "GitHubOAuthenticator", "GitLabOAuthenticator", "GlobusOAuthenticator",
    "MWOAuthenticator", "OpenShiftOAuthenticator",
})  # fmt: skip
URLS = ("authorize_url", "token_url", "userdata_url")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def authenticator_class(name: str) -> type:
    """By a short name that its package registers, or by `module.Class`. Raises ValueError with a sentence."""
    known = {each.name: each for each in entry_points(group="jupyterhub.authenticators")}
    try:
        found = known[name.lower()].load() if name.lower() in known else import_item(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"authenticator: there is no {name!r} ({error}). Those there are: {', '.join(sorted(known))}, or write module.Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Authenticator)):
        raise ValueError(f"authenticator: {name!r} is no authenticator of JupyterHub")
    return found


def is_single_sign_on(cls: type) -> bool:
    return issubclass(cls, OAuthenticator)


def with_defaults(cls: type, given: Mapping[str, Mapping[str, Any]]) -> Config:
    """What the class is configured with: as given, and `sub` as a name where oauthenticator's own default is no safe one."""
    config = Config({name: dict(values) for name, values in given.items()})
    named = cls.__name__ in UNIQUE_OF or any("username_claim" in values for values in given.values())
    if not named and str(cls(config=config).username_claim) in CHOSEN:
        config[cls.__name__].username_claim = "sub"
    return config


def check(name: str, given: Mapping[str, Mapping[str, Any]], *, claim_is_unique: bool) -> None:
    """Raises ValueError: one sentence for each setting that can't be used or lets people become somebody else."""
    cls = authenticator_class(name)
    if not is_single_sign_on(cls):
        return
    try:
        made = cls(config=with_defaults(cls, given))
    except (TraitError, ValueError, TypeError) as error:
        raise ValueError(
            f"authenticator_settings: {type(error).__name__}: a value can't be used: {_first_line(error)}"
        ) from error
    found = list(_unsafe(made, claim_is_unique))
    if found:
        raise ValueError("; ".join(found))


def _unsafe(made: Any, claim_is_unique: bool) -> Iterator[str]:
    claim = made.username_claim
    if not claim_is_unique and type(made).__name__ not in UNIQUE_OF and str(claim) in CHOSEN:
        yield (
            f"authenticator_settings: username_claim {claim!r} is a name that users of many providers choose themselves, so one could take "
            "another's; use 'sub', or 'email' (only verified addresses are let in), or, where your provider gives each user one name "
            "that nobody can change, set `username_claim_is_unique: true`"
        )
    for field in URLS:
        url = urlsplit(str(getattr(made, field) or ""))
        if url.scheme == "http" and url.hostname not in LOOPBACK:
            yield f"authenticator_settings: {field} {url.geturl()!r} is not encrypted, so whoever listens signs in as anybody; use https"
    if not made.validate_server_cert:
        yield "authenticator_settings: validate_server_cert is off, so anybody can pose as the identity provider; leave it on"
    if not made.client_id or not made.client_secret:
        missing = "client_id" if not made.client_id else "client_secret"
        yield f"authenticator_settings: {missing} is missing; the identity provider gives it when you register Moorage there"
    if not made.any_allow_config:
        yield (
            "authenticator_settings: nobody may sign in; set allowed_users, allowed_groups (with manage_groups) or, where "
            "everybody whom the identity provider knows may, allow_all: true"
        )


def _first_line(error: Exception) -> str:
    # Of a TraitError the value is no secret's: those are texts, which any text satisfies.
    return str(error).splitlines()[0][:300]
