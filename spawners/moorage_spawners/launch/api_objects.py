"""One kind of object of the Kubernetes API, as lists and as a stream of changes. Objects are plain JSON, as the server sends them.

Every failure is one of two: `Expired` (the server has forgotten the version that was asked from: list again) or `Unanswered`
(anything else: wait, and list again). No answer is waited for without end.
"""

import json
import math
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.errors import Silent as Silent
from moorage_spawners.launch.errors import Unanswered as Unanswered
from moorage_spawners.launch.types import Object

PAGE = 500  # objects in one answer
CONNECT_S = 10.0
SLACK = 1.05  # a server that keeps a stream for longer than it was asked to is left
GONE = 410
# Of a silent connection: asked after so many seconds, again every so many, and lost after so many without an answer.
PROBES = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
LONGEST_REPLY = 300  # characters of a server's message that are kept


class Expired(Exception):
    """The server no longer knows the version of the objects from which it was asked to go on."""


@dataclass(frozen=True)
class Listing:
    """All objects there were at one version."""

    objects: tuple[Object, ...]
    version: str


@dataclass(frozen=True)
class Sent:
    """One line of a stream. Of a bookmark only the version in the object counts; a deleted object is as it was last."""

    kind: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


@dataclass(frozen=True)
class Resource:
    """`kind`: in the plural ("pods", "events"), of the core API; of one namespace, or of all; `labels`, `fields`: selectors."""

    api: ApiClient
    kind: str
    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        return f"/api/v1/{self.kind}" if self.namespace is None else f"/api/v1/namespaces/{self.namespace}/{self.kind}"

    async def read_all(self, *, page_within_s: float) -> Listing:
        """All objects as they are now or later, never earlier: no version is given, so the server may not use an old answer."""
        found: list[Object] = []
        more = ""
        while True:
            query = [("limit", str(PAGE))] + ([("continue", more)] if more else [])
            page = await self._page(query, page_within_s)
            try:
                found += page["items"] or []
                version, more = page["metadata"]["resourceVersion"], page["metadata"].get("continue", "")
            except (KeyError, TypeError) as error:
                raise Unanswered(f"The API server answered {self.path} with something that is no list.") from error
            if not more:
                return Listing(tuple(found), version)

    async def _page(self, query: list[tuple[str, str]], within_s: float) -> Any:
        try:
            async with await self._get(
                query, aiohttp.ClientTimeout(total=within_s, sock_connect=CONNECT_S)
            ) as response:
                await _check(response)
                return json.loads(await response.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a TimeoutError is an OSError
            raise Unanswered(_sentence(self.path, error)) from error

    async def watch(self, version: str, *, lasts_s: float, silence_s: float) -> AsyncGenerator[Sent, None]:
        """Changes after `version`, for `lasts_s` seconds at most. Raises Silent when nothing at all comes for `silence_s`.

        A server sends a bookmark about every minute as long as anything changes that it keeps; where nothing does, silence is not
        told from a dead connection.
        """
        query = [
            ("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", version),
            ("timeoutSeconds", str(max(1, math.ceil(lasts_s)))),
        ]  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=lasts_s * SLACK, sock_connect=CONNECT_S, sock_read=silence_s)
        try:
            async with await self._get(query, timeout) as response:
                probe_while_silent(response)
                await _check(response)
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield _sent(line)
        except aiohttp.SocketTimeoutError as error:
            raise Silent(_sentence(self.path, error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unanswered(_sentence(self.path, error)) from error

    async def _get(self, query: list[tuple[str, str]], limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        selectors = [("labelSelector", self.labels), ("fieldSelector", self.fields)]
        query = query + [(name, text) for name, text in selectors if text]
        response = await self.api.call_api(
            self.path, "GET", query_params=query, header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"], _preload_content=False, _request_timeout=limits,
        )  # fmt: skip
        assert isinstance(response, aiohttp.ClientResponse)
        return response


async def send(api: ApiClient, method: str, path: str, body: Object | None, *, within_s: float) -> tuple[int, Object]:
    """Status and object of the server's answer; what a PATCH says is merged.

    Raises Unanswered; then it may have done what was asked, or not.
    """
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    limits = aiohttp.ClientTimeout(total=within_s, sock_connect=CONNECT_S)
    try:
        response = await api.call_api(
            path, method, body=body, header_params={"Accept": "application/json", "Content-Type": kind},
            auth_settings=["BearerToken"], _preload_content=False, _request_timeout=limits,
        )  # fmt: skip
        async with response:
            found = json.loads(await response.read() or b"{}")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unanswered(_sentence(path, error)) from error
    return response.status, found if isinstance(found, dict) else {}


async def read_log(api: ApiClient, namespace: str, pod: str, *, lines: int, longest: int, within_s: float) -> bytes:
    """The last `lines` lines of a pod's only container, `longest` bytes at most; nothing where there is none. Raises Unanswered."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    limits = aiohttp.ClientTimeout(total=within_s, sock_connect=CONNECT_S)
    try:
        response = await api.call_api(
            path, "GET", query_params=[("tailLines", str(lines))], auth_settings=["BearerToken"],
            _preload_content=False, _request_timeout=limits,
        )  # fmt: skip
        async with response:
            return (await response.read())[-longest:] if response.status == 200 else b""
    except (aiohttp.ClientError, OSError) as error:
        raise Unanswered(_sentence(path, error)) from error


def probe_while_silent(response: aiohttp.ClientResponse) -> None:
    """The system asks the other side of a stream in which nothing comes, and ends a connection that has been lost on the way."""
    connection = response.connection
    line = None if connection is None or connection.transport is None else connection.transport.get_extra_info("socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in PROBES.items():
            line.setsockopt(socket.IPPROTO_TCP, option, value)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == GONE:
        raise Expired
    if response.status != 200:
        said = (await response.text(errors="replace"))[:LONGEST_REPLY]
        after = response.headers.get("Retry-After", "")
        seconds = float(after) if after.isascii() and after.isdecimal() else 0.0
        raise Unanswered(f"The API server answered {response.url.path} with {response.status}: {said}", seconds)


def _sent(line: bytes) -> Sent:
    """Raises Expired, Unanswered, or ValueError for what is no line of a stream."""
    found = json.loads(line)
    if not isinstance(found, dict) or not isinstance(found.get("object"), dict):
        raise ValueError("a line that is no event")
    kind, what = found.get("type"), found["object"]
    if kind == "ERROR":
        if what.get("code") == GONE:
            raise Expired
        raise Unanswered(f"The API server ended a stream: {str(what.get('message'))[:LONGEST_REPLY]}")
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise ValueError(f"an event of the type {kind!r:.40}")
    return Sent(kind, what)


def _sentence(path: str, error: Exception) -> str:
    return f"The API server can't be asked for {path}: {str(error) or type(error).__name__}"
