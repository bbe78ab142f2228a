"""Logs that programs append to while we keep them short. The writer keeps its file: it is emptied in place, never moved away."""

import contextlib
import os
import shutil
from pathlib import Path


def rotate(path: Path, most: int, *, kept: int) -> bool:
    """Over `most` bytes: what there is goes to `<path>.1`, the one before to `.2`, up to `kept`. Not there: nothing.

    The writer must append (O_APPEND). What it writes in the moment between copy and truncation is lost. Where there is no room for
    a copy the log is emptied without one, and says so: that makes room, and the older ones stay as they are.
    """
    if not _longer(path, most):
        return False
    lost = _put_aside(path, kept) if kept else None
    os.truncate(path, 0)
    if lost is not None:
        with contextlib.suppress(OSError), open(path, "ab") as log:
            log.write(f"... the beginning was removed: there was no room to put it aside ({lost}) ...\n".encode())
    return True


def _put_aside(path: Path, kept: int) -> OSError | None:
    """Copies first, and moves the older ones only then: a copy that fails must not push a good one out. What hindered it, or None."""
    copy = path.with_name(f"{path.name}.new")
    try:
        with open(path, "rb") as old, open(copy, "wb", opener=private) as new:
            shutil.copyfileobj(old, new)
        for number in range(kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(_numbered(path, number), _numbered(path, number + 1))
        os.replace(copy, _numbered(path, 1))
    except OSError as error:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        return error
    return None


def shorten(path: Path, most: int) -> bool:
    """Over `most` bytes: the newer half of `most` stays. Not there: nothing. The writer must append."""
    if not _longer(path, most):
        return False
    with open(path, "r+b") as file:
        file.seek(-(most // 2), os.SEEK_END)
        newest = file.read(most // 2)
        file.truncate(0)
        file.seek(0)
        file.write(b"... the beginning was removed: this log had grown too long ...\n" + newest.partition(b"\n")[2])
    return True


def _longer(path: Path, most: int) -> bool:
    try:
        return path.stat().st_size > most
    except FileNotFoundError:
        return False


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def private(path: str, flags: int) -> int:
    """An `opener`: a file that is made is its owner's alone, whatever the umask."""
    return os.open(path, flags, 0o600)
