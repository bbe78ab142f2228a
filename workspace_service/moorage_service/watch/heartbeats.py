"""When each loop of this process last went round: a loop that hangs says nothing, so somebody else must notice."""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Beat:
    """`age_s`: since the loop's last whole pass. `every_s`: how often it goes round when there is nothing to do."""

    loop: str
    age_s: float
    every_s: float

    @property
    def late(self) -> bool:
        """Far later than it should be: it hangs, or fails at every pass."""
        return self.age_s > LATE_S + 3 * self.every_s


LATE_S = 30.0  # a pass may have much to do


class Heartbeats:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, float]] = {}

    def expect(self, loop: str, every_s: float) -> None:
        """The loop begins: from now on it is missed."""
        with self._lock:
            self._last[loop] = (time.monotonic(), every_s)

    def beat(self, loop: str) -> None:
        """A whole pass is over. A loop that nobody expects is none (tests run passes by themselves)."""
        with self._lock:
            if loop in self._last:
                self._last[loop] = (time.monotonic(), self._last[loop][1])

    def ended(self, loop: str) -> None:
        with self._lock:
            self._last.pop(loop, None)

    def all(self) -> list[Beat]:
        now = time.monotonic()
        with self._lock:
            return [Beat(loop, now - at, every_s) for loop, (at, every_s) in sorted(self._last.items())]
