"""Whether a child answers. One that hangs looks alive: it keeps its port, and nobody gets anywhere."""

import os
import signal
import threading
import time

import httpx

from moorage_hub.children import Child

LOOKS = 6  # within the time after which a child that says nothing is given up
FIRST_ANSWER_S = 120.0  # so long may a child take until it answers at all


class Pulse:
    """Asks `url` again and again, in a thread of its own, which hangs as long as the child does. `start` and `stop` it once.

    Any answer will do, a refusal too. What counts is how often nothing came, not how much time went by: we may have been paused ourselves.
    """

    def __init__(self, child: Child, url: str, patience_s: float) -> None:
        self.child = child
        self.patience_s = patience_s
        self._url = url
        self._pid: int | None = None
        self._answered = False
        self._unanswered = 0  # in a row
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"pulse-{child.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def silent(self) -> bool:
        """Whether it runs and has not answered for `patience_s`."""
        pid = None if self.child.process is None else self.child.process.pid
        if pid != self._pid:
            self._pid, self._answered, self._unanswered = pid, False, 0
        patience_s = self.patience_s if self._answered else max(self.patience_s, FIRST_ANSWER_S)
        return pid is not None and self._unanswered > patience_s / self._every_s

    def give_up(self) -> None:
        """Ends the child, which is started again as any that died."""
        if self._pid is not None:
            os.killpg(self._pid, signal.SIGKILL)

    @property
    def _every_s(self) -> float:
        return self.patience_s / LOOKS

    def _listen(self) -> None:
        with httpx.Client(timeout=self._every_s, trust_env=False) as client:
            while not self._stopping.is_set():
                begun = time.monotonic()
                try:
                    client.get(self._url)
                except httpx.TransportError:
                    self._unanswered += 1
                else:
                    self._answered, self._unanswered = True, 0
                self._stopping.wait(max(0.0, self._every_s - (time.monotonic() - begun)))
