"""The built-in authenticator: a private list of users with generated passwords, and one-time login links."""

import asyncio
from pathlib import Path
from typing import Any

from jupyterhub.handlers import BaseHandler
from tornado import web
from traitlets import Bool, Float, Unicode

from moorage_hub.accounts import Accounts
from moorage_hub.front_door import Discreet, FrontDoor
from moorage_hub.login_links import LoginLinks


class PasswordAuthenticator(FrontDoor):
    """Only who is listed may log in, by password or by a link that works once."""

    state_folder = Unicode(help="Moorage's state folder.").tag(config=True)
    owner = Unicode(help="The first user.").tag(config=True)
    in_pods = Bool(False, help="Whether users' notebooks are pods, which keep them apart.").tag(config=True)
    login_link_s = Float(3600.0, help="How long a login link is good, in seconds.").tag(config=True)

    @property
    def accounts(self) -> Accounts:
        return Accounts(Path(self.state_folder), self.owner, in_pods=self.in_pods)

    @property
    def links(self) -> LoginLinks:
        return LoginLinks(Path(self.state_folder), lifetime_s=self.login_link_s)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._checking = asyncio.Semaphore(2)  # a password costs 16 MiB and some work to check

    async def authenticate(self, _handler: Any, data: dict[str, Any]) -> dict[str, Any] | None:
        async with self._checking:
            name = await asyncio.to_thread(self._name, data)
        account = self.accounts.get(name) if name is not None else None
        return None if account is None else {"name": name, "admin": account.admin}

    def _name(self, data: dict[str, Any]) -> str | None:
        if data.get("nonce"):
            return self.links.use(str(data["nonce"]))
        name, password = str(data.get("username") or ""), str(data.get("password") or "")
        return name if self.accounts.check(name, password) else None

    def check_allowed(self, username: str, _authentication: dict[str, Any] | None = None) -> bool:
        """The list is the rule, read anew at each login: who is removed is out at once."""
        return self.accounts.get(username) is not None

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        return [*super().get_handlers(app), (r"/login-once", LoginOnceHandler)]


class LoginOnceHandler(Discreet, BaseHandler):  # type: ignore[misc]  # jupyterhub carries no types
    """`/hub/login-once?token=...`: swaps the link's secret for a session of the hub, once.

    It is called a token because the hub keeps what is called so out of its log.
    """

    async def get(self) -> None:
        user = await self.login_user({"nonce": self.get_argument("token", "")})
        if user is None:
            raise web.HTTPError(
                403,
                "This login link was used already, or is too old. Make a new one with `make link`, or use the password.",
            )
        self.redirect(self.hub.base_url)  # which leads on to the start page, without the nonce
