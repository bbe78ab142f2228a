"""A dashboard of an engine, as our proxy sees one: tells what it was asked, redirects, and echoes on a websocket."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import WSMsgType, web


async def _answer(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _echo(request)
    if request.path.endswith("/redirect"):
        return web.Response(status=302, headers={"Location": request.query["to"]})  # as it is, however odd
    if request.path.endswith("/html"):
        prefix = request.path.removesuffix("/html")
        return web.Response(text=f"<a href='{prefix}/status'>", content_type="text/html")
    answer = web.json_response(
        {
            "path": request.raw_path,
            "method": request.method,
            "headers": dict(request.headers),
            "body": await request.text(),
        }
    )
    answer.headers.update(
        {
            "Set-Cookie": "stolen=1",
            "Content-Security-Policy": "default-src *",
            "Service-Worker-Allowed": "/",
            "Access-Control-Allow-Origin": "*",
            "X-Own": "kept",
        }
    )
    return answer


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=("bokeh",))
    await socket.prepare(request)
    await socket.send_json({"path": request.raw_path, "headers": dict(request.headers)})
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@contextmanager
def serve(port: int) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    started = threading.Event()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        started.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
