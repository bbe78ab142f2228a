"""How often a sign-in may be tried: by one address, and by one address under one name. In the hub's memory.

Not by name alone: whoever knows a name could shut its owner out. A password costs some work to check, so what is refused here is
refused before any of it is done.
"""

import math
import time
from typing import Any

from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from tornado import web

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
        own = parse_many(rate) if rate else []
        self._items = [(item, type(item)(item.amount * FROM_AN_ADDRESS, item.multiples)) for item in own]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, address: str, name: str = "") -> None:
        """Raises TooManyAttempts. Of a long name the beginning counts: the memory is bounded."""
        for own, of_the_address in self._items:
            for item, key in ((own, f"{address} {name[:64]}"), (of_the_address, address)):
                if not self._limiter.hit(item, key):
                    free_at = self._limiter.get_window_stats(item, key).reset_time
                    raise TooManyAttempts(max(1, math.ceil(free_at - time.time())))

    def forgive(self, address: str, name: str) -> None:
        """It was the user: what they tried under this name does not count any more."""
        for own, _ in self._items:
            self._limiter.clear(own, f"{address} {name[:64]}")


def address_of(handler: Any) -> str:
    return str(handler.request.remote_ip)
