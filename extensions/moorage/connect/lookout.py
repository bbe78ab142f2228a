"""Lets a Ray driver go when its cluster has gone: Ray ends a driver's whole process, the kernel, a minute later."""

import logging
import socket
import threading
from collections.abc import Callable

LOOK_S = 3.0
MISSES = 3  # in a row: one refused connection may be a full backlog

log = logging.getLogger(__name__)


class Lookout:
    """Looks at an address from a thread; calls `gone` once when it has answered no longer, and ends."""

    def __init__(self, address: str, gone: Callable[[], None], *, look_s: float = LOOK_S, misses: int = MISSES) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host.strip("[]"), int(port))
        self._gone = gone
        self._look_s = look_s
        self._misses = misses
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="moorage-lookout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it without calling `gone`; returns at once."""
        self._over.set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        missed = 0
        while not self._over.wait(self._look_s):
            missed = 0 if answers(self._target) else missed + 1
            if missed >= self._misses:
                try:
                    self._gone()
                except Exception:  # the edge of a thread: nobody else would hear of it
                    log.warning("Could not let go of a cluster that has gone", exc_info=True)
                return


def answers(target: tuple[str, int], timeout_s: float = 2.0) -> bool:
    """Whether something takes connections there."""
    try:
        with socket.create_connection(target, timeout=timeout_s):
            return True
    except OSError:
        return False
