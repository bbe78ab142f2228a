"""The wishes to stop running builds, from whoever asks to the thread that builds."""

from threading import Event, Lock


class Cancels:
    def __init__(self) -> None:
        self._lock = Lock()
        self._events: dict[str, Event] = {}

    def event(self, build_id: str) -> Event:
        """Set once somebody wants the build to stop, even if they asked before its thread looked."""
        with self._lock:
            return self._events.setdefault(build_id, Event())

    def cancel(self, build_id: str) -> None:
        """For a build that runs."""
        self.event(build_id).set()

    def forget(self, build_id: str) -> None:
        with self._lock:
            self._events.pop(build_id, None)
