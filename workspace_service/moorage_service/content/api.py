"""The application of the content origin. It has no pages, no API and no cookies: each of its paths begins with a grant."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, Response, WebSocket, WebSocketException
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage_service import errors
from moorage_service.clusters import sockets
from moorage_service.clusters.dashboards import upstream_of
from moorage_service.clusters.forwarding import METHODS, Passage, path_below
from moorage_service.content import grants
from moorage_service.content.grants import GrantEnded, Holder
from moorage_service.context import Context, Ctx, current_context
from moorage_service.errors import NotFound, ServiceError
from moorage_service.jobs import outputs, runs
from moorage_service.settings import PREFIX

CONTENT = f"{PREFIX}/content"
SECRET = "moorage.secret"  # noqa: S105 - where it is in the scope
_WITH_SECRET = re.compile(rf"({re.escape(CONTENT)}/(?:enter/)?)([A-Za-z0-9_-]{{40,60}})(/.*)", re.DOTALL)
HEADERS = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

router = APIRouter(prefix=CONTENT)


def content_app(context: Context) -> ASGIApp:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.context = context
    errors.install_handlers(app)
    app.include_router(router)
    app.add_exception_handler(GrantEnded, _again)
    return app


class SecretsKeptBack:
    """Middleware around everything: takes ticket or grant out of the path, so that nothing, the web server included, can log it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or scope.get("path", "").encode()
        found = _WITH_SECRET.fullmatch(raw.decode("latin-1"))
        if found is not None:
            start, secret, below = found.groups()
            # In place: it is the web server's own, which writes the path of a websocket into its log.
            scope["path"] = scope["path"].replace(secret, "-", 1)
            scope["raw_path"] = f"{start}-{below}".encode("latin-1")
            scope[SECRET] = secret
        await self._app(scope, receive, send)


def _again(connection: HTTPConnection, error: Exception) -> Response:
    """A person who comes back to a page is led to where they may enter again; a script is refused."""
    assert isinstance(error, GrantEnded)
    goes = connection.headers.get("sec-fetch-mode", "navigate") == "navigate"
    if error.page is None or connection.scope.get("method") != "GET" or not goes:
        return errors.Answer(error.body(), status_code=error.status, headers=HEADERS)
    below = path_below(connection, f"{CONTENT}/enter/-/" if "/enter/-/" in connection.url.path else f"{CONTENT}/-/")
    address = current_context(connection).settings.addresses.at(f"{error.page}{below}")
    return RedirectResponse(f"{address}{_query(connection)}", status_code=302, headers=HEADERS)


@router.get("/enter/-/{path:path}")
def enter(context: Ctx, request: Request, path: str) -> Response:
    grant = grants.exchange(context, request.scope.get(SECRET, ""))
    below = path_below(request, f"{CONTENT}/enter/-/")
    return RedirectResponse(f"{CONTENT}/{grant}/{below}{_query(request)}", status_code=303, headers=HEADERS)


def grant_holder(context: Ctx, connection: HTTPConnection) -> Holder:
    """Every route but the entrance asks for it, before anything is read or accepted."""
    try:
        return grants.holder(context, connection.scope.get(SECRET, ""))
    except GrantEnded as error:
        if connection.scope["type"] == "websocket":
            raise WebSocketException(code=1008, reason=error.code) from error
        raise


RequireGrant = Annotated[Holder, Depends(grant_holder)]


@router.api_route("/-/{path:path}", methods=METHODS)
async def show(context: Ctx, holder: RequireGrant, request: Request, path: str) -> Response:
    if holder.target.kind == "dashboard":
        passage = await run_in_threadpool(_passage, context, holder, request.scope[SECRET])
        return await passage.answer(request)
    if request.method not in ("GET", "HEAD"):
        raise NotFound("There is nothing here.")
    return await run_in_threadpool(_output, context, holder, path, "download" in request.query_params)


@router.websocket("/-/{path:path}")
async def connect(context: Ctx, holder: RequireGrant, websocket: WebSocket, path: str) -> None:
    addresses = context.settings.addresses
    try:
        if holder.target.kind != "dashboard" or websocket.headers.get("origin") != addresses.content:
            raise NotFound("There is nothing here.")
        passage = await run_in_threadpool(_passage, context, holder, websocket.scope[SECRET])
        await passage.connect(websocket)
    except ServiceError as error:
        raise WebSocketException(code=1008, reason=error.code) from error


def _passage(context: Context, holder: Holder, grant: str) -> Passage:
    def allowed() -> bool:
        try:
            upstream_of(context, grants.holder(context, grant).caller, holder.target.id)
        except ServiceError:
            return False
        return True

    upstream = upstream_of(context, holder.caller, holder.target.id)
    watch = sockets.Watch(allowed, context.settings.socket_check_s)
    framed_by = context.settings.addresses.portal
    return Passage(upstream, f"{CONTENT}/{grant}/", watch, within=f"{CONTENT}/-/", framed_by=framed_by)


def _output(context: Context, holder: Holder, name: str, download: bool) -> Response:
    with context.database.read() as session:
        run = runs.find(session, holder.caller, holder.target.id)
    path = outputs.find(context.settings, run.workload_id, name)
    return outputs.answer(path, framed_by=context.settings.addresses.portal, download=download)


def _query(connection: HTTPConnection) -> str:
    query: str = connection.scope["query_string"].decode("latin-1")
    return f"?{query}" if query else ""
