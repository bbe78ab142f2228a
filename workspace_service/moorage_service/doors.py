"""By which name a request came. The portal's leads to pages and API, the content origin's to content, and no other anywhere.

Another site whose name was made to lead to this machine ("DNS rebinding") is a name that is not ours.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.origins import OWN_PORTS, is_loopback, split_host
from moorage_service.context import Context
from moorage_service.errors import Answer


class Doors:
    """Middleware around the application of the portal; `content` is the one of the content origin."""

    def __init__(self, app: ASGIApp, *, context: Context, content: ASGIApp) -> None:
        self._app = app
        self._context = context
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")
        door = self._context.settings.addresses.door(host)
        if door is not None and scope["type"] == "http":
            scope["scheme"] = self._context.settings.public_url.partition(":")[
                0
            ]  # of redirects; whatever a header says
        if door == "portal" or self._is_own(host):
            await self._app(scope, receive, send)
        elif door == "content":
            await self._content(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "misdirected"})
        else:
            await self._turn_away(scope, host)(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        """The address by which the hub and workloads call, beside the proxy."""
        own = urlsplit(self._context.settings.own_address)
        name, port = split_host(host, OWN_PORTS["http"])
        return port == own.port and (name == own.hostname or is_loopback(name))

    def _turn_away(self, scope: Scope, host: str) -> Response:
        addresses = self._context.settings.addresses
        name, _ = split_host(host, OWN_PORTS["http"])
        if scope["method"] in ("GET", "HEAD") and is_loopback(name):
            # Somebody who typed the machine's other name.
            raw = scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/")
            query = scope["query_string"].decode("latin-1")
            return RedirectResponse(addresses.at(f"/{raw}") + (f"?{query}" if query else ""), status_code=302)
        message = f"Moorage does not answer to this name. Open {addresses.page()} instead."
        return Answer({"code": "misdirected", "message": message}, status_code=421)
