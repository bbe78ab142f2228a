"""The blocking client: carries out the calls of `moorage.calls`."""

import time
from types import TracebackType
from typing import Self, TypeVar

import httpx

from moorage import errors
from moorage.call import RETRY_DELAYS, Call, Reply
from moorage.environment import Surroundings, surroundings

T = TypeVar("T")

CONNECT_S = 5.0
READ_S = 30.0


class Client:
    """Sends calls to one service with one token. Safe to use from several threads.

    Raises the errors of `moorage.errors` only. A call that may be repeated is, a few times, while the service
    cannot be reached or is restarting; any call is repeated when no connection could be made at all.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.BaseTransport | None = None,
        delays: tuple[float, ...] = RETRY_DELAYS,
    ) -> None:
        self.url = check_url(url)
        self._delays = delays
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            transport=transport,
            trust_env=False,  # the service is near: a proxy for the outside world must not see the token
        )

    @classmethod
    def here(cls, url: str | None = None, token: str | None = None, around: Surroundings | None = None) -> Self:
        """The client of this notebook, run or terminal; `url` and `token` win over the environment.

        Raises NotConfigured when address or token are known from neither.
        """
        found = around or surroundings()
        url, token = url or found.api_url, token or found.token
        if url is None:
            raise errors.NotConfigured(
                "The address of the Moorage service is not known here. Set MOORAGE_API_URL (or give --url), such as "
                "http://127.0.0.1:8000/services/moorage."
            )
        if token is None:
            raise errors.NotConfigured(
                "There is no token for the Moorage service here. Set MOORAGE_TOKEN (or give --token); "
                "make a token on the hub's token page."
            )
        return cls(url, token)

    def send(self, call: Call[T]) -> T:
        """Carry out a call. Blocks; raises the error that the answer stands for."""
        return call.result(self._exchange(call))

    def _exchange(self, call: Call[T]) -> Reply:
        for delay in (*self._delays, None):
            try:
                response = self._http.request(
                    call.method, call.url, params=dict(call.params), content=call.content, headers=call.headers
                )
            except httpx.TransportError as error:
                if delay is None or not may_resend(call, error):
                    raise unreachable(self.url, error) from error
            else:
                if delay is None or not call.worth_repeating(response.status_code):
                    return Reply(response.status_code, response.content, response.headers)
            time.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_url(url: str) -> str:
    """The service's address without a slash at the end. Raises InvalidInput when it is no http address."""
    stripped = url.strip().rstrip("/")
    if not stripped.startswith(("http://", "https://")) or " " in stripped:
        raise errors.InvalidInput(
            f"The service's address {url!r} is no http address; write one such as http://127.0.0.1:8000/services/moorage.",
            field="url",
        )
    return stripped


def may_resend(call: Call[T], error: httpx.TransportError) -> bool:
    """Whether a call whose sending failed may be sent again: it is repeatable, or it never left."""
    return call.repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def unreachable(url: str, error: httpx.TransportError) -> errors.ServiceUnreachable:
    why = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "does not answer"
    return errors.ServiceUnreachable(
        f"The Moorage service at {url} {why}. It may be restarting: try again in a moment. "
        "Notebooks, clusters and runs go on meanwhile."
    )
