"""How much a request may bring: what is read whole before anything looks at it is bounded before it is read.

What streams (outputs of runs, archives of projects, what a dashboard is sent) is bounded, where it must be, by who reads it.
"""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage_jobs.snapshot import MAX_TOTAL_BYTES
from moorage_service.errors import Answer, TooLarge
from moorage_service.portal.uploads import LARGEST
from moorage_service.settings import PREFIX

# A promotion's files are base64 in JSON, a third longer than they are.
PROMOTION = MAX_TOTAL_BYTES * 3 // 2
_PROMOTES = re.compile(rf"{PREFIX}/api/v1/jobs(/inspect)?")
_STREAMS = re.compile(rf"{PREFIX}/(dashboards/.*|api/v1/(runs/[^/]+/outputs/[^/]+|projects/[^/]+/(files|manifest)))")


class LimitBodies:
    """Middleware: `largest` bytes, but for promotions, forms with files, and what streams. Else 413, in words."""

    def __init__(self, app: ASGIApp, *, largest: int) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _STREAMS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope["path"], headers.get("content-type", ""))
        length = headers.get("content-length", "")
        if length.isdecimal():
            if int(length) > limit:
                await self._refuse(limit)(scope, receive, send)
            else:
                await self._app(scope, receive, send)
            return
        read = await _read(receive, limit) if "transfer-encoding" in headers else []
        if read is None:
            await self._refuse(limit)(scope, receive, send)
        else:
            await self._app(scope, _replay(read, receive), send)

    def _limit(self, path: str, content_type: str) -> int:
        if _PROMOTES.fullmatch(path):
            return PROMOTION
        return LARGEST if content_type.startswith("multipart/form-data") else self._largest

    def _refuse(self, limit: int) -> Answer:
        words = f"body: it is larger than {limit >> 10} KiB, the most that is taken here. Send less."
        return Answer(
            TooLarge(words, field="body").body(), status_code=TooLarge.status, headers={"Connection": "close"}
        )


async def _read(receive: Receive, limit: int) -> list[Message] | None:
    """A body whose length was not announced; None when it is too long."""
    read: list[Message] = []
    while True:
        message = await receive()
        read.append(message)
        limit -= len(message.get("body", b""))
        if limit < 0:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return read


def _replay(read: list[Message], receive: Receive) -> Receive:
    """First what was read, then what comes."""
    left = iter(read)

    async def replayed() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return replayed
