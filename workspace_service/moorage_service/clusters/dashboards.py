"""Dashboards of clusters, for their owner or an admin only, checked at every request.

With one origin for all they are shown here, in a sandbox (see `forwarding.py`). Else they are shown at the content origin, and
whoever comes here with a browser is led there with a ticket.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, WebSocket, WebSocketException
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse

from moorage.wire import WorkloadKind
from moorage_service.clusters import sockets
from moorage_service.clusters.engines import ENGINES
from moorage_service.clusters.forwarding import METHODS, Passage, path_below
from moorage_service.clusters.operations import credentials_of, site_of, spec_of
from moorage_service.clusters.plan import Upstream
from moorage_service.content import grants
from moorage_service.context import Context, Ctx, current_context
from moorage_service.errors import Conflict, Forbidden, NotSignedIn, ServiceError
from moorage_service.identity import oauth
from moorage_service.identity.audit import note_opened
from moorage_service.identity.callers import Caller, RequireUser, identify, require_user
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ClusterRow
from moorage_service.workloads import operations as workloads


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
async def forward(context: Ctx, caller: RequireUser, request: Request, cluster_id: str, path: str) -> Response:  # noqa: ARG001
    """A browser is led to the content origin, where there is one: nothing that a cluster wrote comes from the portal's."""
    passage = await run_in_threadpool(_passage, context, caller, request, cluster_id)
    if not grants.is_elsewhere(context, caller):
        return await passage.answer(request)
    if request.method not in ("GET", "HEAD"):
        raise Forbidden("A dashboard is not shown here. Open it from its cluster's page.")
    below = path_below(request, passage.own) + (f"?{request.url.query}" if request.url.query else "")
    target = grants.Target("dashboard", cluster_id)
    return RedirectResponse(
        await run_in_threadpool(grants.entrance, context, request, caller, target, below), status_code=303
    )


def socket_user(context: Ctx, connection: HTTPConnection) -> Caller:
    """As RequireUser, for a websocket: it is refused before it is accepted."""
    try:
        return require_user(identify(context, connection))
    except ServiceError as error:
        raise WebSocketException(code=1008, reason=error.code) from error


@router.websocket("/{cluster_id}/{path:path}")
async def forward_socket(
    context: Ctx,
    caller: Annotated[Caller, Depends(socket_user)],
    websocket: WebSocket,
    cluster_id: str,
    path: str,  # noqa: ARG001
) -> None:
    try:
        if grants.is_elsewhere(context, caller):
            raise Forbidden("A dashboard is not shown here. Open it from its cluster's page.")
        passage = await run_in_threadpool(_passage, context, caller, websocket, cluster_id)
        await passage.connect(websocket)
    except ServiceError as error:
        raise WebSocketException(code=1008, reason=error.code) from error


def _passage(context: Context, caller: Caller, connection: HTTPConnection, cluster_id: str) -> Passage:
    upstream = upstream_of(context, caller, cluster_id)
    note_opened(context, caller, cluster_id)
    return Passage(upstream, f"{PREFIX}/dashboards/{cluster_id}/", _watch(context, connection, cluster_id))


def _watch(context: Context, connection: HTTPConnection, cluster_id: str) -> sockets.Watch:
    """What is long open asks again as at its beginning: signed out, disabled, or the cluster ended, it is closed."""

    def allowed() -> bool:
        try:
            upstream_of(context, require_user(identify(context, connection)), cluster_id)
        except ServiceError:
            return False
        return True

    return sockets.Watch(allowed, context.settings.socket_check_s)


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
