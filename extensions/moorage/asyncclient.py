"""The async client, for the hub: the same calls, the same errors, on the running event loop."""

import asyncio
from types import TracebackType
from typing import Self, TypeVar

import httpx

from moorage.call import RETRY_DELAYS, Call, Reply
from moorage.client import CONNECT_S, READ_S, check_url, may_resend, unreachable

T = TypeVar("T")


class AsyncClient:
    """Sends calls to one service with one token. Like `moorage.client.Client`, see there."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        delays: tuple[float, ...] = RETRY_DELAYS,
    ) -> None:
        self.url = check_url(url)
        self._delays = delays
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            transport=transport,
            trust_env=False,
        )

    async def send(self, call: Call[T]) -> T:
        """Carry out a call; raises the error that the answer stands for."""
        return call.result(await self._exchange(call))

    async def _exchange(self, call: Call[T]) -> Reply:
        for delay in (*self._delays, None):
            try:
                response = await self._http.request(
                    call.method, call.url, params=dict(call.params), content=call.content, headers=call.headers
                )
            except httpx.TransportError as error:
                if delay is None or not may_resend(call, error):
                    raise unreachable(self.url, error) from error
            else:
                if delay is None or not call.worth_repeating(response.status_code):
                    return Reply(response.status_code, response.content, response.headers)
            await asyncio.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
