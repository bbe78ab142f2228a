"""Logs that programs append to while we keep them short. The writer keeps its file: it is emptied in place, never moved away."""

import contextlib
import os
import shutil
from pathlib import Path


def rotate(path: Path, most: int, *, kept: int) -> bool:
    """Over `most` bytes: what there is goes to `<path>.1`, the one before to `.2`, up to `kept`. Not there: nothing.

    The writer must append (O_APPEND). What it writes in the moment between copy and truncation is lost.
    """
    if not _longer(path, most):
        return False
    for number in range(kept - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(_numbered(path, number), _numbered(path, number + 1))
    if kept:
        copy = _numbered(path, 1)
        with open(path, "rb") as old, open(copy, "wb", opener=private) as new:
            shutil.copyfileobj(old, new)
    os.truncate(path, 0)
    return True


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
