"""Wakes sleeping loops when something changed, so that nobody waits for a timer."""

import threading


class Wakeup:
    """A counter under a condition: a change between two waits is never missed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._changes = 0

    def notify(self) -> None:
        with self._condition:
            self._changes += 1
            self._condition.notify_all()

    @property
    def changes(self) -> int:
        return self._changes

    def wait(self, seen: int, timeout_s: float) -> int:
        """Returns at the first change after `seen`, or after the time-out, with the count to wait on next."""
        with self._condition:
            self._condition.wait_for(lambda: self._changes != seen, timeout=timeout_s)
            return self._changes
