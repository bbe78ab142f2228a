"""How often one user, and one address, may ask for what is dear. Counted in this process's memory, in a moving window.

An address is counted for requests that come through the proxy; programs on this machine, which call directly, are known by their user.
In a cluster these have an address, too: their pod's.
Several users may share an address (an office, a campus), so it may ask five times as often as one user.
"""

import math
import time
from enum import StrEnum

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from moorage_service.errors import TooManyRequests
from moorage_service.settings import Rates

FROM_AN_ADDRESS = 5


class Action(StrEnum):
    """The names are those of the settings."""

    NOTEBOOK_START = "notebook_start"
    CLUSTER_CREATE = "cluster_create"
    RUN_START = "run_start"
    PROMOTE = "promote"
    BUILD = "build"
    TICKET = "ticket"
    SIGN_IN = "sign_in"
    REPORT = "report"


WORDS = {
    Action.NOTEBOOK_START: "Notebooks may be started",
    Action.CLUSTER_CREATE: "Clusters may be made",
    Action.RUN_START: "Runs may be started",
    Action.PROMOTE: "Notebooks may be promoted",
    Action.BUILD: "Environments may be built",
    Action.TICKET: "Dashboards and outputs may be opened",
    Action.SIGN_IN: "Sign-ins may fail",
    Action.REPORT: "Reports may come",
}


class RateLimits:
    """`count` once for each thing asked for, before it is done. Threads may call at once."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, action: Action, *, user_id: str | None = None, address: str | None = None) -> None:
        """Raises TooManyRequests in words, with the time to wait. What was refused is not counted: it costs nothing."""
        for key, item, whose in self._applying(action, user_id, address):
            if not self._limiter.hit(item, action.value, key):
                raise self._refusal(action, key, item, whose)

    def check(self, action: Action, *, user_id: str | None = None, address: str | None = None) -> None:
        """As `count`, and counts nothing: for where it is counted later, or only when it fails."""
        for key, item, whose in self._applying(action, user_id, address):
            if not self._limiter.test(item, action.value, key):
                raise self._refusal(action, key, item, whose)

    def _applying(
        self, action: Action, user_id: str | None, address: str | None
    ) -> list[tuple[str, RateLimitItem, str]]:
        text = getattr(self._rates, action.value)
        if not text or not self._rates.enabled:
            return []
        own = parse_many(text)
        found = [] if user_id is None else [(user_id, item, "by each user") for item in own]
        if address is not None:
            times = 1 if user_id is None else FROM_AN_ADDRESS
            several = [type(item)(item.amount * times, item.multiples) for item in own]
            found += [(f"address {address}", item, "from one address") for item in several]
        return found

    def _refusal(self, action: Action, key: str, item: RateLimitItem, whose: str) -> TooManyRequests:
        free_at = self._limiter.get_window_stats(item, action.value, key).reset_time
        wait_s = max(1, math.ceil(free_at - time.time()))
        return TooManyRequests(
            f"{WORDS[action]} {item} {whose}, and that many were. Wait {wait_s} s and try again.", retry_after_s=wait_s
        )
