"""A dashboard passed on: what a request to it becomes, and what of its answer a browser may have.

What a dashboard shows was written by whatever runs in the cluster, so nothing of it is trusted: the target comes from our
record and never from the request; no credential of ours goes there and none of its cookies comes back; and a policy of
content keeps its pages from asking, framing or opening anything beside themselves.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp
from fastapi import Request, Response, WebSocket
from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse
from yarl import URL

from moorage_service.clusters import sockets
from moorage_service.clusters.plan import Upstream
from moorage_service.errors import BadRequest, Unavailable

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
# Besides, what says who the user is or where they come from; `accept-encoding` stays, bodies pass as they are.
KEPT_BACK = HOP | {"host", "cookie", "authorization", "x-ray-authorization", "origin", "referer", "forwarded"}
NOT_RETURNED = HOP | {
    "set-cookie", "service-worker-allowed", "content-security-policy", "content-security-policy-report-only",
    "x-frame-options", "location", "access-control-allow-origin", "access-control-allow-credentials", "clear-site-data", "refresh", "link",
}  # fmt: skip
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?\Z|\[[0-9a-fA-F:]+\](:\d+)?\Z")
_DOT = re.compile("%2e", re.IGNORECASE)
_DROPPED = {ord(character): None for character in "\t\r\n"}
LARGEST_PAGE = 16 << 20  # of those in which addresses are changed


@dataclass(frozen=True)
class Passage:
    """From the paths below `own` on the origin that was asked, to the dashboard.

    `within`: the same path as the request has it, where that is another one. `framed_by`: what may show it in a frame.
    """

    upstream: Upstream
    own: str  # with a slash at both ends
    watch: sockets.Watch
    within: str | None = None
    framed_by: str = "'self'"

    async def answer(self, request: Request) -> Response:
        """Raises BadRequest for a path that can't be passed on, Unavailable when the dashboard does not answer."""
        target, rules = self._target(request), self._rules(request)
        client = aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        body = request.stream() if request.method in WITH_BODY else None
        try:
            found = await client.request(
                request.method, target, headers=self._asked(request.headers), data=body, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            await client.close()
            raise Unavailable("The dashboard does not answer. If the cluster is ready, load the page again.") from error
        returned = {name: value for name, value in found.headers.items() if name.lower() not in NOT_RETURNED} | rules
        location = self._own_location(found.headers.get("location"), self.own + self._below(request))
        if location is not None:
            returned["location"] = location
        pieces: AsyncIterator[bytes] = found.content.iter_any()
        if self._moved and found.content_type == "text/html":
            pieces = self._readdressed(found)
            returned = {name: value for name, value in returned.items() if name.lower() != "content-length"}
        return StreamingResponse(
            self.watch.guard(pieces),
            status_code=found.status,
            headers=returned,
            background=BackgroundTask(client.close),
        )

    async def connect(self, websocket: WebSocket) -> None:
        """A websocket: it is refused before it is accepted. Raises BadRequest as `answer` does."""
        await sockets.forward(websocket, self._target(websocket), self._asked(websocket.headers), self.watch)

    @property
    def _moved(self) -> bool:
        """Whether the dashboard believes that it is shown at another path than it is."""
        return bool(self.upstream.prefix) and f"{self.upstream.prefix}/" != self.own

    async def _readdressed(self, found: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """A page that names its own address, with the one at which it is shown."""
        page = await found.content.read(LARGEST_PAGE)
        while not found.content.at_eof() and len(page) < LARGEST_PAGE:
            page += await found.content.read(LARGEST_PAGE - len(page))
        yield page.replace(self.upstream.prefix.encode(), self.own.rstrip("/").encode())

    def _asked(self, headers: Mapping[str, str]) -> dict[str, str]:
        named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
        passed = {
            name: value
            for name, value in headers.items()
            if name.lower() not in KEPT_BACK | named and not name.lower().startswith(("x-forwarded-", "sec-"))
        }
        if self._moved:
            passed = {name: value for name, value in passed.items() if name.lower() != "accept-encoding"}
            passed["Accept-Encoding"] = "identity"  # its pages are read on the way
        return {**passed, **self.upstream.headers}

    def _target(self, connection: HTTPConnection) -> URL:
        query = connection.scope["query_string"].decode("latin-1")
        address = f"{self.upstream.root}{self.upstream.prefix}/{self._below(connection)}"
        return URL(address + (f"?{query}" if query else ""), encoded=True)

    def _below(self, connection: HTTPConnection) -> str:
        return path_below(connection, self.within or self.own)

    def _own_location(self, location: str | None, path: str) -> str | None:
        """A redirect as the browser may follow it: below `own`, or None. Outside, a script could read what the user can."""
        if location is None:
            return None
        # As browsers read it: these are dots and slashes to them, and what lies between is dropped.
        location = _DOT.sub(".", location.replace("\\", "/")).translate(_DROPPED).strip()
        if location.startswith(f"{self.upstream.root}/"):
            location = location[len(self.upstream.root) :]
        if location.startswith("/") and not location.startswith(("//", self.own)):
            below = location.removeprefix(f"{self.upstream.prefix}/")
            if self.upstream.prefix and below == location:
                return None
            location = self.own + below.removeprefix("/")
        joined = urlsplit(urljoin(f"http://here{path}", location))
        if joined.netloc != "here" or not joined.path.startswith(self.own):
            return None
        return joined.path + (f"?{joined.query}" if joined.query else "")

    def _rules(self, request: HTTPConnection) -> dict[str, str]:
        """Headers that keep a dashboard's pages to the paths below `own`; its scripts may not reach hub, portal or notebooks."""
        host = request.headers.get("host", "")
        if not _HOST.match(host):
            raise BadRequest("Host: this header can't be read.", field="host")
        here = f"{host}{self.own}"
        rules = [
            "default-src 'none'",
            f"script-src {here} 'unsafe-inline' 'unsafe-eval'",
            f"style-src {here} 'unsafe-inline'",
            f"img-src {here} data: blob:",
            f"font-src {here} data:",
            f"connect-src {here} ws://{here} wss://{here}",
            f"manifest-src {here}",
            "worker-src 'none'",
            "frame-src 'none'",
            f"frame-ancestors {self.framed_by}",
            f"form-action {here}",
            "base-uri 'none'",
            # No pop-ups: a window of this origin could be scripted.
            "sandbox allow-scripts allow-same-origin allow-forms allow-downloads",
        ]
        return {
            "Content-Security-Policy": "; ".join(rules),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }


def path_below(connection: HTTPConnection, own: str) -> str:
    """What was asked for below `own`, as it came, encoded. Raises BadRequest where it climbs, or where `own` came encoded."""
    raw = connection.scope.get("raw_path", connection.scope["path"].encode()).decode("latin-1")
    start, found, below = raw.partition(own)
    if start or not found:
        raise BadRequest("path: it can't be read. Open the dashboard from its cluster's page.", field="path")
    if ".." in connection.scope["path"].replace("\\", "/").split("/"):
        raise BadRequest("path: '..' has no place here. Open the dashboard from its cluster's page.", field="path")
    return str(below)
