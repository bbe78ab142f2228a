"""Images that no collection takes away: those that a build is at, and for a while after it.

A build looks whether an image is there, or pushes it, long before the store says that a project uses it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

AFTER = timedelta(hours=1)  # by then whoever built it has said so in the store, or has ended


class Sparing:
    """Of one process, which builds and collects alone while it acts."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at_work: Counter[str] = Counter()
        self._ended: dict[str, datetime] = {}

    @contextmanager
    def build(self, image: str) -> Iterator[None]:
        """While a build is at it: the digest of an environment, or the tag of what it lies on. Waits for a collection that is under way."""
        with self._lock:
            self._at_work[image] += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work[image] -= 1
                self._ended[image] = self._clock()

    @contextmanager
    def collection(self) -> Iterator[frozenset[str]]:
        """What is to be spared; no build comes to another image meanwhile."""
        with self._lock:
            ago = self._clock() - AFTER
            self._ended = {image: ended for image, ended in self._ended.items() if ended > ago}
            self._at_work = +self._at_work
            yield frozenset(self._ended) | frozenset(self._at_work)
