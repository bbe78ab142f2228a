"""The number of the newest term, in a file beside what the terms act on: it is there though the store is away."""

import contextlib
import fcntl
import os
from pathlib import Path


class OutdatedError(Exception):
    """This process was told to act by a term that is over; whatever it was about to do is another's matter now."""


class Fence:
    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> int:
        """0: no term yet."""
        try:
            return int(self._file.read_text() or 0)
        except FileNotFoundError:
            return 0

    def raise_to(self, number: int) -> None:
        """Never lowers it."""
        if number <= self.read():
            return
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(f"{self._file}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as lock:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a second writer is harmless, a paused one is not
            if number > self.read():
                fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
                fresh.write_text(str(number))
                fresh.replace(self._file)

    def require(self, number: int) -> None:
        """Raises OutdatedError when a later term has begun."""
        newest = self.read()
        if newest > number:
            raise OutdatedError(f"Term {number} is over: another service process acts in term {newest}.")
