"""How often a sign-in may fail: from one address, and from one address under one name. In the hub's memory.

Not by name alone: whoever knows a name could shut its owner out. Not by address alone: an office comes through one, and everybody signs in
at nine. A password costs some work to check, so what is refused here is refused before any of it is done.
"""

import math
import time
from typing import Any

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from tornado import web

from moorage_spawners.launch.proxy_pods import AddressOf

FROM_AN_ADDRESS = 5  # times as many as under one name: several people may share it


class TooManyAttempts(web.HTTPError):
    """429 with a sentence and the time to wait."""

    def __init__(self, wait_s: int) -> None:
        sentence = f"Too many sign-ins were tried. Wait {wait_s} s and try again."
        super().__init__(429, sentence)
        self.jupyterhub_message = sentence
        self.headers = {"Retry-After": str(wait_s)}  # which JupyterHub's pages of errors send


class Attempts:
    """`rate` as "10 per minute; 100 per hour"; empty: as many as anybody likes."""

    def __init__(self, rate: str) -> None:
        self._of_a_name = parse_many(rate) if rate else []
        self._of_an_address = [type(item)(item.amount * FROM_AN_ADDRESS, item.multiples) for item in self._of_a_name]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def begin(self, address: str, name: str) -> None:
        """Raises TooManyAttempts. Counted under the name until `succeeded`. Of a long name the beginning counts: memory is bounded."""
        for item in self._of_an_address:
            if not self._limiter.test(item, address):
                raise self._refusal(item, address)
        for item in self._of_a_name if name else []:
            if not self._limiter.hit(item, _key(address, name)):
                raise self._refusal(item, _key(address, name))

    def failed(self, address: str) -> None:
        for item in self._of_an_address:
            self._limiter.hit(item, address)

    def succeeded(self, address: str, name: str) -> None:
        """It was the user: what they tried under this name does not count any more."""
        for item in self._of_a_name:
            self._limiter.clear(item, _key(address, name))

    def _refusal(self, item: RateLimitItem, key: str) -> TooManyAttempts:
        free_at = self._limiter.get_window_stats(item, key).reset_time
        return TooManyAttempts(max(1, math.ceil(free_at - time.time())))


def _key(address: str, name: str) -> str:
    return f"{address} {name[:64]}"


def address_of(handler: Any, tell: AddressOf) -> str:
    """Not `remote_ip`: that believes X-Real-Ip, which browsers can send, and believes everybody."""
    connection = handler.request.connection
    own = None if connection.stream.socket is None else connection.stream.socket.getsockname()
    forwarded = ",".join(handler.request.headers.get_list("X-Forwarded-For"))
    peer, trusted = connection.context.address, connection.context.trusted_downstream
    return tell(forwarded, peer, own, trusted) or str(peer[0])
