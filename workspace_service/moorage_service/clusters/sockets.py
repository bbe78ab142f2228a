"""A websocket passed on to another: both directions, until either side closes."""

import asyncio
import contextlib
from collections.abc import Mapping

import aiohttp
from starlette.websockets import WebSocket, WebSocketDisconnect
from yarl import URL


async def forward(websocket: WebSocket, target: URL, headers: Mapping[str, str]) -> None:
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
            tasks = [asyncio.create_task(_inwards(websocket, other)), asyncio.create_task(_outwards(other, websocket))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # closed by the browser already
            await websocket.close(1000)


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
