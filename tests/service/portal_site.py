"""The portal as a browser sees it: the service and the hub's own pages on one origin, over real HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from moorage_service.app import create_app
from moorage_service.context import Context
from tests.fakes.hub import FakeHub
from tests.waiting import eventually


@contextmanager
def serve(context: Context, hub: FakeHub, host: str = "127.0.0.1") -> Iterator[str]:
    """Yields the origin, which becomes the settings' public address. No background threads."""

    async def hub_page(request: Request) -> Response:
        found = hub.answer(request.method, request.url.path, request.url.query, "", await request.body())
        return Response(found.body, status_code=found.status, headers=found.headers)

    async def lab(request: Request) -> Response:
        return HTMLResponse(f"<link rel=icon href='data:,'><h1>JupyterLab at {request.url.path}</h1>")

    site = Starlette(
        routes=[Route("/hub/{rest:path}", hub_page), Route("/user/{rest:path}", lab), Mount("/", create_app(context, background=False))]
    )  # fmt: skip
    server = uvicorn.Server(
        uvicorn.Config(site, host="127.0.0.1", port=0, log_level="warning", ws="none", lifespan="off")
    )
    thread = threading.Thread(target=server.run, name="portal-site", daemon=True)
    thread.start()
    eventually(lambda: server.started)
    origin = f"http://{host}:{server.servers[0].sockets[0].getsockname()[1]}"
    context.settings.public_url = origin
    try:
        yield origin
    finally:
        server.should_exit = True
        thread.join(timeout=20)
