"""The run's log: what the notebook prints, as it comes, with secrets masked and a bound on its size."""

import contextlib
import os
import threading
from pathlib import Path

from moorage_jobs.runner.redaction import Redactor

_LONGEST_LINE = 64 * 1024


class RunLog:
    """Writes whole lines to a file and to a descriptor (the process's own output); safe from several threads.

    A line is held back until it ends, so that a secret printed in pieces is still seen as a whole. What a full disk does not
    take is left out: the notebook goes on.
    """

    def __init__(self, path: Path, redactor: Redactor, limit: int, echo: int | None) -> None:
        self._redactor = redactor
        self._left = limit
        self._echo = echo
        self._lock = threading.Lock()
        self._pending: dict[str, str] = {}
        self._file = path.open("wb", buffering=0)

    def write(self, text: str, stream: str = "stdout") -> None:
        """Adds text of one stream of the notebook; streams are kept apart until their lines end."""
        with self._lock:
            lines, newline, rest = (self._pending.get(stream, "") + text).rpartition("\n")
            if len(rest) > _LONGEST_LINE + self._redactor.longest:
                keep = len(rest) - self._redactor.longest
                lines, newline, rest = lines + newline + rest[:keep], "", rest[keep:]
            self._pending[stream] = rest
            if lines or newline:
                self._emit(lines + newline)

    def line(self, text: str) -> None:
        """A line of the runner's own."""
        self.write(f"[moorage] {text}\n", "moorage")

    def close(self) -> None:
        """Writes what is held back, and ends the file."""
        with self._lock:
            for rest in self._pending.values():
                if rest:
                    self._emit(rest + "\n")
            self._pending.clear()
            self._file.close()

    def _emit(self, text: str) -> None:
        if self._left <= 0 or self._file.closed:
            return
        data = self._redactor.text(text).encode("utf-8", "backslashreplace")
        if len(data) > self._left:
            data = data[: self._left] + b"\n[moorage] The log ends here: it reached its size limit.\n"
            self._left = 0
        else:
            self._left -= len(data)
        for descriptor in (self._file.fileno(), self._echo):
            if descriptor is not None:
                _write_what_fits(descriptor, data)


def _write_what_fits(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    with contextlib.suppress(OSError):  # full, or gone
        while left:
            left = left[os.write(descriptor, left) :]
