"""Around every request: its id, its time and its answer, for the log and for Prometheus."""

import logging
import re
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage_service.metrics import REQUESTS
from moorage_service.watch import logs

log = logging.getLogger("moorage_service.requests")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # a client may invent more
READS = frozenset({"GET", "HEAD", "OPTIONS"})
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# They come once a second from each cluster and run, and say nothing that their workload's history does not.
_REPORTS = ("/agent/reports", "/progress", "/observations", "/notebooks/condition")


class WatchRequests:
    """Middleware around the whole application. A request keeps the id that a proxy gave it (`X-Request-ID`), else gets one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)
        facts = logs.begin(request)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            took = time.perf_counter() - begun
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUESTS.labels(method, str(status)).observe(took)
            _tell(scope, method, status, took, facts)


def _tell(scope: Scope, method: str, status: int, took: float, facts: dict[str, str]) -> None:
    """Changes and failures get a line. By the route's pattern: what stands in a path may be a one-use ticket."""
    route = getattr(scope.get("route"), "path", "-")
    if status < 500 and (method in READS or route.endswith(_REPORTS)):
        return
    workload = next((value for key, value in scope.get("path_params", {}).items() if key.endswith("_id")), None)
    if isinstance(workload, str) and _ID.fullmatch(workload.encode()):
        facts.setdefault("id", workload)
    log.log(logging.ERROR if status >= 500 else logging.INFO, "%s %s %d in %.0f ms", method, route, status, took * 1000)
