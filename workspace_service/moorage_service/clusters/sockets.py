"""A websocket passed on to another: both directions, until either side closes, or the user may not hold it any more."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import aiohttp
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect
from yarl import URL


@dataclass(frozen=True)
class Watch:
    """Who was let in stays in only while `allowed` (which may block, and asks the store) says so; asked every `every_s` seconds."""

    allowed: Callable[[], bool]
    every_s: float

    async def until_refused(self) -> None:
        while await run_in_threadpool(self.allowed):  # noqa: ASYNC110 - it is asked, nobody tells
            await asyncio.sleep(self.every_s)

    async def guard(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces of a body, which ends early when its reader may not have it any more."""
        asked = time.monotonic()
        async for piece in pieces:
            if time.monotonic() - asked >= self.every_s:
                if not await run_in_threadpool(self.allowed):
                    return
                asked = time.monotonic()
            yield piece


async def forward(websocket: WebSocket, target: URL, headers: Mapping[str, str], watch: Watch) -> None:
    """`target` is an http address. Refused there: the browser's socket is closed before it is accepted."""
    protocols = websocket.scope.get("subprotocols", [])
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        try:
            other = await client.ws_connect(target, headers=dict(headers), protocols=protocols, max_msg_size=0)
        except (aiohttp.ClientError, TimeoutError):
            await websocket.close(1011)
            return
        async with other:
            await websocket.accept(subprotocol=other.protocol)
            refused = asyncio.create_task(watch.until_refused())
            tasks = [
                asyncio.create_task(_inwards(websocket, other)), asyncio.create_task(_outwards(other, websocket)), refused
            ]  # fmt: skip
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                code = 1008 if refused in done else 1000
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # closed by the browser already
            await websocket.close(code)


async def _inwards(websocket: WebSocket, other: aiohttp.ClientWebSocketResponse) -> None:
    with contextlib.suppress(WebSocketDisconnect, aiohttp.ClientError, ConnectionError):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                await other.send_bytes(message["bytes"])
            else:
                await other.send_str(message["text"])


async def _outwards(other: aiohttp.ClientWebSocketResponse, websocket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        async for message in other:
            if message.type is aiohttp.WSMsgType.TEXT:
                await websocket.send_text(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await websocket.send_bytes(message.data)
