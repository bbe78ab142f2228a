"""A way to the API server that fails as a test wishes: it resets, drops, falls silent, or refuses.

It listens on the node's own address and ends TLS by the API server's certificate, so that it sees each request and may answer it itself.
Whoever is led to it (led.py) sends the bearer token of its own account, which is passed on.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from moorage_spawners.launch.api_thread import ApiThread
from tests.kube.commands import run
from tests.kube.place import ADDRESS, API_PORT, COMMENT, Place

PORT = 7443
API = URL(f"https://{ADDRESS}:{API_PORT}")
LARGEST = 32 << 20  # bytes of a request
GONE = 410
# Of one connection, and of what is passed on as it came.
HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
NO_LIMITS = aiohttp.ClientTimeout(total=None)


@dataclass(frozen=True)
class Asked:
    """A request. `by`: the address of the pod that sent it; `at`: of the monotonic clock."""

    at: float
    by: str
    method: str
    path: str
    watch: bool


class ApiProxy:
    """Runs between `with`. `asked`: all requests so far, also those that were not let through."""

    def __init__(self, place: Place) -> None:
        self.asked: list[Asked] = []
        self._resetting = self._silent = False
        self._refusing: int | None = None
        self._server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server_tls.load_cert_chain(place.pki / "serving.crt", place.pki / "serving.key")
        self._client_tls = ssl.create_default_context(cafile=str(place.pki / "ca.crt"))

    def __enter__(self) -> Self:
        self._thread = ApiThread()
        self._thread.wait(self._open())
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.wait(self._close())
        self._thread.close()

    # What goes wrong

    @contextmanager
    def resetting(self) -> Iterator[None]:
        """Every connection is cut, and each new one as soon as it asks for anything."""
        self._resetting = True
        self.reset()
        try:
            yield
        finally:
            self._resetting = False

    @contextmanager
    def dropping(self) -> Iterator[None]:
        """Packets of every connection are lost, both ways; who sent them is told nothing."""
        rules = [["INPUT", "--dport"], ["OUTPUT", "--sport"]]
        said = ["-m", "comment", "--comment", COMMENT, "-j", "DROP"]
        made = [[chain, "-p", "tcp", side, str(PORT), *said] for chain, side in rules]
        try:
            for rule in made:
                run(["iptables", "-w", "-I", *rule])
            yield
        finally:
            for rule in made:
                run(["iptables", "-w", "-D", *rule], check=False)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """What the server says on a stream of changes is swallowed, and the stream stays open; of one that lost anything for ever."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    @contextmanager
    def refusing(self, status: int) -> Iterator[None]:
        """The streams that are open end. Every request gets this answer; 410 those alone that go on from a version."""
        self._refusing = status
        self.reset()
        try:
            yield
        finally:
            self._refusing = None

    def reset(self) -> None:
        """Every connection is cut, once."""
        self._thread.wait(self._abort())

    # Serving

    async def _open(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._client_tls, limit=0)
        self._upstream = aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=NO_LIMITS)
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, ADDRESS, PORT, ssl_context=self._server_tls, reuse_address=True).start()

    async def _close(self) -> None:
        await self._abort()
        await self._runner.cleanup()
        await self._upstream.close()

    async def _abort(self) -> None:
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        self.asked.append(Asked(time.monotonic(), request.remote or "", request.method, request.path, watch))
        if self._resetting and request.transport is not None:
            request.transport.abort()
            return web.Response(status=503)
        if self._refusing is not None and (self._refusing != GONE or watch):
            return await self._refuse(request, self._refusing)
        return await self._pass_on(request, watch)

    async def _refuse(self, request: web.Request, status: int) -> web.StreamResponse:
        reason = {GONE: "Expired", 429: "TooManyRequests"}.get(status, "InternalError")
        said = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": "not now",
            "reason": reason,
            "code": status,
        }
        if status != GONE or len(self.asked) % 2:
            return web.json_response(said, status=status)
        # The other way in which the server says so.
        line = json.dumps({"type": "ERROR", "object": said}) + "\n"
        return web.Response(text=line, content_type="application/json")

    async def _pass_on(self, request: web.Request, watch: bool) -> web.StreamResponse:
        url = API.join(URL(request.rel_url.raw_path_qs, encoded=True))
        body = await request.read()
        async with self._upstream.request(request.method, url, headers=_kept(request.headers), data=body) as found:
            response = web.StreamResponse(status=found.status, headers=_kept(found.headers))
            await response.prepare(request)
            lost = False
            with contextlib.suppress(ConnectionResetError, aiohttp.ClientError):  # either side went away
                async for chunk in found.content.iter_any():
                    lost = lost or (watch and self._silent)
                    if not lost:
                        await response.write(chunk)
            if lost:
                await asyncio.Event().wait()  # the end was swallowed, too: until the other side gives it up
        return response


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP}
