"""A port of this machine that leads to an address of the cluster, for as long as anybody wants it.

`kubectl port-forward` leads to one pod, ends with it, and now and then with a connection that the pod has closed: one test's browser
would be cut off for what another's did.
"""

import asyncio
import contextlib
from typing import Self

from moorage_spawners.launch.api_thread import ApiThread

PIECE = 64 << 10  # bytes


class Relay:
    """While entered; at the loopback address only."""

    def __init__(self, port: int, to: tuple[str, int]) -> None:
        self._port = port
        self._to = to
        # Once its caller has said all, nothing else holds a connection that still waits for the answer: it would be collected.
        self._open: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread = ApiThread()
        try:
            self._server = self._thread.wait(asyncio.start_server(self._begin, "127.0.0.1", self._port))
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.wait(self._close())
        self._thread.close()

    async def _close(self) -> None:
        self._server.close()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        led = asyncio.get_running_loop().create_task(self._lead(reader, writer))
        self._open.add(led)
        led.add_done_callback(self._open.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            there, back = await asyncio.open_connection(*self._to)
            with contextlib.closing(back):
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(_pass_on(reader, back))
                    ways.create_task(_pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side has said all; the other is told so. A connection that breaks is closed both ways."""
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()
