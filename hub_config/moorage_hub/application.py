"""JupyterHub, answering only to its own names: a page of another site whose name was made to lead here learns nothing.

`python -m moorage_hub.application --config ...` is `jupyterhub`, with this check before its handlers.
"""

from html import escape
from typing import Any
from urllib.parse import SplitResult, urlsplit

from jupyterhub.app import JupyterHub
from tornado import httputil, web
from tornado.httpclient import HTTPError
from tornado.ioloop import PeriodicCallback
from tornado.routing import Matcher, Rule
from traitlets import Float

from moorage.origins import OWN_PORTS, Origins, is_loopback, split_host

# What services, servers and the proxy ask the hub for at its own port.
INTERNAL = ("/hub/api", "/hub/health", "/hub/error/", "/hub/metrics")


class Hub(JupyterHub):  # type: ignore[misc]  # jupyterhub carries no types
    """Needs `public_url`; with `subdomain_host` each user has an origin of their own below it."""

    name = "jupyterhub"
    check_routes_s = Float(5.0, help="Seconds between two looks whether the proxy has all its routes.").tag(config=True)

    async def start(self) -> None:
        await super().start()
        # What is missing is added. JupyterHub itself looks only when it notes everybody's last activity, with queries for each server.
        self._looks_at_routes = PeriodicCallback(self._check_routes, self.check_routes_s * 1000)
        self._looks_at_routes.start()

    async def _check_routes(self) -> None:
        try:
            await self.proxy.check_routes(self.users, self._service_map)
        except (OSError, HTTPError) as error:  # the proxy is away: the next look is soon
            self.log.warning("The proxy's routes could not be checked: %s", error)

    def init_tornado_application(self) -> None:
        super().init_tornado_application()
        public = urlsplit(self.public_url)
        origins = Origins(f"{public.scheme}://{public.netloc}", per_user=bool(self.subdomain_host))
        stranger = Rule(Elsewhere(origins, urlsplit(self.hub_connect_url)), ElsewhereHandler, {"origins": origins})
        self.tornado_application.default_router.rules.insert(0, stranger)


class Elsewhere(Matcher):
    """Matches requests that came under a name at which the hub has nothing to say."""

    def __init__(self, origins: Origins, own: SplitResult) -> None:
        """`own`: the hub's address for its other parts; on this machine by whatever name it has for itself."""
        self._origins = origins
        self._own = own

    def match(self, request: httputil.HTTPServerRequest) -> dict[str, Any] | None:
        name, port = split_host(request.host, OWN_PORTS["http"])
        by_own_name = port == self._own.port and (name == self._own.hostname or is_loopback(name))
        if by_own_name and request.path.startswith(INTERNAL):
            return None
        door = self._origins.door(request.host)
        # On a user's origin the hub only sends on to itself, when their server is not there.
        at_home = door == "portal" or (door == "user" and not request.path.startswith("/hub/"))
        return None if at_home else {}


class ElsewhereHandler(web.RequestHandler):
    """Sends a person on to the hub's address; refuses the rest."""

    def initialize(self, origins: Origins) -> None:
        self._origins = origins

    def prepare(self) -> None:
        name, _ = split_host(self.request.host, OWN_PORTS["http"])
        ours = is_loopback(name) or self._origins.door(self.request.host) == "user"
        if self.request.method in ("GET", "HEAD") and ours:
            self.redirect(f"{self._origins.portal}/{(self.request.uri or '/').lstrip('/')}")
            return
        self.set_status(421, "Misdirected Request")
        self.finish(f"Moorage does not answer to this name. Open {escape(self._origins.portal)}/\n")

    def check_xsrf_cookie(self) -> None:
        """Nothing is done here that could be forged."""


if __name__ == "__main__":
    Hub.launch_instance()
