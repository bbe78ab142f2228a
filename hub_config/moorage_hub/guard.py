"""What stands between any oauthenticator and a sign-in: nobody becomes another user by what an identity provider lets them choose.

`guarded(cls)` is the class with these rules on top. Whatever its own rules allow:

- a name is plain ASCII before it is lower-cased (U+212A, "K", would become "k");
- a name taken from an e-mail address, and any rule on addresses, wants an address that the provider says it has verified;
- a name belongs to the account that signed in under it first (`identities`);
- who may not sign in any more is turned away at the next look as well, not only at the next sign-in.
"""

import re
import types
from pathlib import Path
from typing import Any

from jupyterhub.utils import maybe_future
from tornado import web
from tornado.httpclient import HTTPClientError
from traitlets import List, Unicode

from moorage_hub.front_door import Discreet, FrontDoor
from moorage_hub.identities import Identities

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=|:~-]{0,127}")
EMAIL_CLAIMS = frozenset({"email", "mail", "emailAddress", "upn"})
VERIFIED = ("email_verified", "verified_email")
# What providers call an account by, which is neither chosen nor given again: OIDC's own first.
SUBJECTS = ("sub", "id", "oid", "uuid", "account_id")


class IdentityGuard(FrontDoor):
    """To be put before a class of oauthenticator, as `guarded` does."""

    state_folder = Unicode(help="Moorage's state folder.").tag(config=True)
    allowed_email_domains = List(Unicode(), help="Only verified addresses of these domains, exactly.").tag(config=True)

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        if self.username_claim in EMAIL_CLAIMS and not is_verified(user_info):
            raise _Refused(
                "The identity provider does not say that it has verified your e-mail address. Verify it there first."
            )
        name = super().user_info_to_username(user_info)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise _Refused(
                f"The name {str(name)[:60]!r} can't be a user's here: it takes letters from a to z, digits and . _ @ + - (at most 128)."
            )
        return name

    async def check_blocked_users(self, username: str, authentication: Any = None) -> bool:
        """Asked at every sign-in and at every later look, whatever else allows the user."""
        if authentication is not None:
            info = self._info(authentication)
            self._check_domain(info)
            if self._identities.is_anothers(username, subject_of(info)):
                self.log.warning("another account of the identity provider came as %r and was refused", username)
                raise _anothers(username)
        return bool(await maybe_future(super().check_blocked_users(username, authentication)))

    async def run_post_auth_hook(self, handler: Any, auth_model: dict[str, Any]) -> Any:
        """The sign-in is allowed: from here on the name is this account's."""
        if not self._identities.link(auth_model["name"], subject_of(self._info(auth_model))):
            raise _anothers(auth_model["name"])  # of two who came at once
        return await super().run_post_auth_hook(handler, auth_model)

    async def refresh_user(self, user: Any, handler: Any = None, **given: Any) -> Any:
        """As oauthenticator's, and the rules anew. A provider that does not answer changes nothing: everybody would be out."""
        try:
            fresh = await super().refresh_user(user, handler, **given)
            if not isinstance(fresh, dict):
                return fresh
            return fresh if await self._still_allowed(user.name, fresh) else False
        except web.HTTPError:
            return False
        except (HTTPClientError, OSError) as error:
            self.log.warning("the identity provider can't be asked about %s now: %s", user.name, error)
            return True

    async def _still_allowed(self, name: str, auth_model: dict[str, Any]) -> bool:
        if not await self.check_blocked_users(name, auth_model):
            return False
        return bool(self.allow_all or await maybe_future(self.check_allowed(name, auth_model)))

    @property
    def _identities(self) -> Identities:
        return Identities(Path(self.state_folder))

    def _info(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        return dict((auth_model.get("auth_state") or {}).get(self.user_auth_state_key) or {})

    def _check_domain(self, info: dict[str, Any]) -> None:
        if not self.allowed_email_domains:
            return
        domain = str(info.get("email") or "").rpartition("@")[2].lower()
        if not is_verified(info) or domain not in {each.lower() for each in self.allowed_email_domains}:
            raise _Refused(
                "Only verified e-mail addresses of certain domains may sign in here, and yours is none. Ask an admin."
            )


def guarded(cls: Any) -> type:
    """`cls`, which is one of oauthenticator's, with the guard before it; codes that come back stay out of the hub's log."""
    callback = types.new_class("DiscreetCallback", (Discreet, cls.callback_handler))
    return types.new_class(
        f"Guarded{cls.__name__}", (IdentityGuard, cls), exec_body=lambda names: names.update(callback_handler=callback)
    )


def is_verified(info: dict[str, Any]) -> bool:
    return any(info.get(name) is True or str(info.get(name)).lower() == "true" for name in VERIFIED)


def subject_of(info: dict[str, Any]) -> str:
    """What the provider itself calls the account by. Raises 403 when it says nothing of the kind."""
    of_openshift = info.get("metadata")
    found = [info.get(name) for name in SUBJECTS] + [
        of_openshift.get("uid") if isinstance(of_openshift, dict) else None
    ]
    for value in found:
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            return str(value)
    raise _Refused(
        "The identity provider does not say which account this is (no `sub`). Ask an admin: `scope` must hold openid."
    )


def _anothers(name: str) -> web.HTTPError:
    return _Refused(
        f"The user {name!r} belongs to another account of the identity provider. If that is you with a new account, "
        f"ask an admin: make user ARGS='unlink {name}'."
    )


class _Refused(web.HTTPError):
    """403 with a sentence for the person at the browser."""

    def __init__(self, sentence: str) -> None:
        super().__init__(403, sentence)
        self.jupyterhub_message = sentence
