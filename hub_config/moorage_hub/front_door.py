"""What every authenticator gets on top, whatever its class: bounded work at each sign-in, and a way to sign a user out everywhere."""

from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import Unicode

from moorage_hub.attempts import Attempts, address_of
from moorage_hub.sign_out import SignOutHandler
from moorage_spawners.launch.proxy_pods import chosen

LONGEST = {"username": 255, "password": 4096}  # characters; more is nobody's, and nothing is spent on it


class Discreet:
    """For handlers whose address holds something secret: what the hub logs of a request that failed leaves it out."""

    request: Any

    def _request_summary(self) -> str:
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"


class FrontDoor(Authenticator):  # type: ignore[misc]  # jupyterhub carries no types
    """To be put before an authenticator's class."""

    sign_in_rate = Unicode(help="How often one address may try one name.").tag(config=True)
    platform = Unicode("local", help="Where callers come from: this machine and beyond, or pods.").tag(config=True)
    proxy_pods = Unicode(help="In a cluster: the name that leads to the proxy's pods.").tag(config=True)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._attempts = Attempts(self.sign_in_rate)
        self._tell = chosen(self.platform, self.proxy_pods)

    async def get_authenticated_user(self, handler: Any, data: dict[str, Any] | None) -> Any:
        if any(len(str((data or {}).get(field) or "")) > longest for field, longest in LONGEST.items()):
            return None
        address, name = address_of(handler, self._tell), str((data or {}).get("username") or "")
        self._attempts.begin(address, name)
        found = None
        try:
            found = await super().get_authenticated_user(handler, data)
        finally:
            if found:
                self._attempts.succeeded(address, name)
            else:
                self._attempts.failed(address)
        return found

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        return [*super().get_handlers(app), (r"/api/sign-out/([^/]+)", SignOutHandler)]
