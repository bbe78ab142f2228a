"""Keys in files that only the service can read, made at first use, and read again when they change.

A file holds a line for each key. The first is the one in use; those below it were in use before a rotation, and are accepted
until it has ended.
"""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path


def read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """What `path` holds; if there is no such file, what `make` gives, written there whole (0600) or not at all.

    Two processes that make the same file at once get the same key. Raises OSError with the path.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(handle)
        # Unlike a rename, a link does not replace what another process has made meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
    return path.read_bytes()


def replace(path: Path, keys: Sequence[bytes]) -> None:
    """Writes the file anew, whole, 0600: a reader sees the old lines or the new."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(b"\n".join(keys))
            file.flush()
            os.fsync(handle)
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def lines_of(content: bytes) -> tuple[bytes, ...]:
    return tuple(line.strip() for line in content.splitlines() if line.strip())


class KeyFile:
    """The keys in a file, made if it is not there. Looked at for changes at each use, which costs microseconds."""

    def __init__(self, path: Path, make: Callable[[], bytes]) -> None:
        self._path = path
        self._make = make
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._keys: tuple[bytes, ...] = ()

    def read(self) -> tuple[bytes, ...]:
        """The first is the one in use. Raises OSError with the path."""
        with self._lock:
            try:
                found = self._path.stat()
                mark = (found.st_ino, found.st_mtime_ns)
            except FileNotFoundError:
                mark = None
            if mark is None or mark != self._seen:
                self._keys, self._seen = lines_of(read_or_make(self._path, self._make)), mark
            return self._keys
