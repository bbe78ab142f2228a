"""Dashboards of clusters, for their owner or an admin only, checked at every request.

What a dashboard shows was written by whatever runs in the cluster, so nothing of it is trusted: the target comes from our
record and never from the request; no credential of ours goes there and none of its cookies comes back; and a policy of
content keeps its pages from asking, framing or opening anything beside themselves, for they share the portal's origin.
"""

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from fastapi import APIRouter, Depends, Request, Response, WebSocket, WebSocketException
from fastapi.routing import APIRoute
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, StreamingResponse
from yarl import URL

from moorage.wire import WorkloadKind
from moorage_service.clusters import sockets
from moorage_service.clusters.engines import ENGINES
from moorage_service.clusters.operations import credentials_of, site_of, spec_of
from moorage_service.clusters.plan import Upstream
from moorage_service.context import Context, Ctx, current_context
from moorage_service.errors import BadRequest, Conflict, NotSignedIn, ServiceError, Unavailable
from moorage_service.identity import oauth
from moorage_service.identity.callers import Caller, RequireUser, identify, require_user
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ClusterRow
from moorage_service.workloads import operations as workloads

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
# Besides, what says who the user is or where they come from; `accept-encoding` stays, bodies pass as they are.
KEPT_BACK = HOP | {"host", "cookie", "authorization", "x-ray-authorization", "origin", "referer", "forwarded"}
NOT_RETURNED = HOP | {
    "set-cookie", "service-worker-allowed", "content-security-policy", "content-security-policy-report-only",
    "x-frame-options", "access-control-allow-origin", "access-control-allow-credentials", "clear-site-data", "refresh", "link",
}  # fmt: skip
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?\Z|\[[0-9a-fA-F:]+\](:\d+)?\Z")


class DashboardRoute(APIRoute):
    """A browser that comes here without a session is sent to sign in; anything else gets the usual refusal."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except NotSignedIn:
                if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
                    raise
                query = f"?{request.url.query}" if request.url.query else ""
                return oauth.to_sign_in(current_context(request), f"{request.url.path}{query}")

        return handler


router = APIRouter(prefix="/dashboards", tags=["dashboards"], include_in_schema=False, route_class=DashboardRoute)


@router.get("/{cluster_id}")
def enter(context: Ctx, caller: RequireUser, cluster_id: str) -> RedirectResponse:
    with context.database.read() as session:
        workloads.find_own(session, caller, cluster_id, kind=WorkloadKind.CLUSTER)
        entry = ENGINES[spec_of(session.get_one(ClusterRow, cluster_id)).engine].entry
    return RedirectResponse(f"{PREFIX}/dashboards/{cluster_id}/{entry}")


@router.api_route("/{cluster_id}/{path:path}", methods=METHODS)
async def forward(context: Ctx, caller: RequireUser, request: Request, cluster_id: str, path: str) -> Response:
    upstream = await run_in_threadpool(upstream_of, context, caller, cluster_id)
    target = _target(request, upstream, cluster_id, path)
    own = f"{PREFIX}/dashboards/{cluster_id}/"
    rules = policy(request, own)
    headers = {**_passed_on(request.headers), **upstream.headers}
    client = aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
    body = request.stream() if request.method in ("POST", "PUT", "PATCH", "DELETE") else None
    try:
        answer = await client.request(request.method, target, headers=headers, data=body, allow_redirects=False)
    except (aiohttp.ClientError, TimeoutError) as error:
        await client.close()
        raise Unavailable("The dashboard does not answer. If the cluster is ready, load the page again.") from error
    returned = {name: value for name, value in answer.headers.items() if name.lower() not in NOT_RETURNED}
    returned |= rules
    if "location" in {name.lower() for name in returned}:
        returned = {name: value for name, value in returned.items() if name.lower() != "location"}
        location = _own_location(answer.headers["location"], str(request.url.path), upstream, own)
        if location is not None:
            returned["location"] = location
    return StreamingResponse(
        answer.content.iter_any(), status_code=answer.status, headers=returned, background=BackgroundTask(client.close)
    )  # fmt: skip


def socket_user(context: Ctx, connection: HTTPConnection) -> Caller:
    """As RequireUser, for a websocket: it is refused before it is accepted."""
    try:
        return require_user(identify(context, connection))
    except ServiceError as error:
        raise WebSocketException(code=1008, reason=error.code) from error


@router.websocket("/{cluster_id}/{path:path}")
async def forward_socket(
    context: Ctx, caller: Annotated[Caller, Depends(socket_user)], websocket: WebSocket, cluster_id: str, path: str
) -> None:
    try:
        upstream = await run_in_threadpool(upstream_of, context, caller, cluster_id)
        target = _target(websocket, upstream, cluster_id, path)
    except ServiceError as error:
        raise WebSocketException(code=1008, reason=error.code) from error
    await sockets.forward(websocket, target, {**_passed_on(websocket.headers), **upstream.headers})


def upstream_of(context: Context, caller: Caller, cluster_id: str) -> Upstream:
    """Raises NotFound for a cluster that is not the caller's (nor an admin's), Conflict for one without a dashboard now."""
    with context.database.read() as session:
        workload = workloads.find_own(session, caller, cluster_id, kind=WorkloadKind.CLUSTER)
        row = session.get_one(ClusterRow, cluster_id)
        if workload.target != "running" or row.port_block is None or row.sealed is None:
            raise Conflict(
                f"Cluster {workload.name!r} is {workload.phase}, so it has no dashboard now.", code="no_dashboard"
            )
    return ENGINES[spec_of(row).engine].dashboard(site_of(context, row), credentials_of(context, row))


def policy(request: HTTPConnection, own: str) -> dict[str, str]:
    """Headers that keep a dashboard's pages to the paths below `own`; its scripts may not reach hub, portal or notebooks."""
    host = request.headers.get("host", "")
    if not _HOST.match(host):
        raise BadRequest("Host: this header can't be read.", field="host")
    here = f"{host}{own}"
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
        f"frame-ancestors {host}",
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


def _target(connection: HTTPConnection, upstream: Upstream, cluster_id: str, path: str) -> URL:
    if ".." in path.split("/"):
        raise BadRequest("path: '..' has no place here. Open the dashboard from its cluster's page.", field="path")
    raw = connection.scope.get("raw_path", connection.scope["path"].encode()).decode("latin-1")
    if not upstream.keeps_prefix:
        _, found, below = raw.partition(f"/dashboards/{cluster_id}/")
        if not found:  # its letters came encoded
            raise BadRequest("path: it can't be read. Open the dashboard from its cluster's page.", field="path")
        raw = f"/{below}"
    query = connection.scope["query_string"].decode("latin-1")
    return URL(f"{upstream.root}{raw}" + (f"?{query}" if query else ""), encoded=True)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name.lower() not in KEPT_BACK and not name.lower().startswith(("x-forwarded-", "sec-websocket-"))
    }


def _own_location(location: str, path: str, upstream: Upstream, own: str) -> str | None:
    """A redirect as the browser may follow it: below `own`, or None. Outside, a script could read what the user can."""
    if location.startswith(f"{upstream.root}/"):
        location = location[len(upstream.root) :]
    if location.startswith("/") and not location.startswith(("//", own)) and not upstream.keeps_prefix:
        location = own + location[1:]
    joined = urlsplit(urljoin(f"http://here{path}", location))
    if joined.netloc != "here" or not joined.path.startswith(own):
        return None
    return joined.path + (f"?{joined.query}" if joined.query else "")
