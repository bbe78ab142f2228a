"""Reads a tree that a stranger filled, entry by entry, following no link. Nothing of it runs."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from moorage import folders
from moorage_images.errors import BuildError, UnsafeTreeError

GIB = 1 << 30
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe put in a file's place must not hold us up
_WHITEOUT = ".wh."  # in a layer such a name removes what lies below it


@dataclass(frozen=True, kw_only=True)
class TreeBounds:
    """`size` in bytes, as the files say it, holes included: a sparse file is written out in full."""

    entries: int = 500_000
    links: int = 20_000  # an environment has some ten; all are remembered
    size: int = 64 * GIB
    longest_path: int = 2000  # bytes, below the tree; the rest of the 4096 is for where it lies


class Kind(Enum):
    FOLDER = "folder"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """`path` is below the tree, with surrogates for bytes that are no UTF-8. A file's `content` is open until the next entry."""

    path: str
    kind: Kind
    size: int = 0
    executable: bool = False
    target: str = ""  # a link's, as it is written
    content: BinaryIO | None = None


def entries(tree: Path, bounds: TreeBounds) -> Iterator[Entry]:
    """All files and links below `tree`, and the folders with nothing in them, in an order that names alone decide.

    Raises UnsafeTreeError for what can't be part of an image, and where a bound is passed; BuildError for what can't be read.
    """
    count, links, size = 0, 0, 0
    try:
        for below, inner, others, descriptor in folders.walk(tree):
            if below and not inner and not others:
                yield Entry(path=below, kind=Kind.FOLDER)
            count += len(inner) + len(others)
            if count > bounds.entries:
                raise UnsafeTreeError(f"The environment has more than {bounds.entries} files. Ask for fewer packages.")
            for name in sorted(inner):
                _check_name(_join(below, name), name, bounds)
            for name in others:
                path = _join(below, name)
                _check_name(path, name, bounds)
                with _entry(path, name, descriptor) as opened:
                    size += opened.entry.size
                    links += opened.entry.kind is Kind.LINK
                    if links > bounds.links:
                        raise UnsafeTreeError(
                            f"The environment has more than {bounds.links} links. Ask for fewer packages."
                        )
                    if size > bounds.size:
                        raise UnsafeTreeError(
                            f"The environment takes more than {bounds.size / GIB:.3g} GiB. Ask for fewer packages."
                        )
                    yield opened.entry
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ESTALE, errno.ENXIO):
            raise _changed(shown(os.fsdecode(error.filename or "a folder"))) from error
        raise BuildError(f"The environment can't be read: {error}. An admin has to look at the volume.") from error


class _Opened:
    """An entry, and its descriptor for as long as somebody looks at it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        if self.entry.content is not None:
            self.entry.content.close()


def _entry(path: str, name: str, folder: int) -> _Opened:
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(seen.st_mode):
        return _Opened(Entry(path=path, kind=Kind.LINK, target=os.readlink(name, dir_fd=folder)))
    if not stat.S_ISREG(seen.st_mode):
        raise UnsafeTreeError(f"{shown(path)} is neither a file nor a folder. Remove the package that made it.")
    content = open_file(name, folder)
    now = os.fstat(content.fileno())
    return _Opened(
        Entry(path=path, kind=Kind.FILE, size=now.st_size, executable=bool(now.st_mode & 0o111), content=content)
    )


def open_file(name: str, folder: int) -> BinaryIO:
    """A plain file that lies in the folder. Raises OSError, and UnsafeTreeError for what is no plain file."""
    descriptor = os.open(name, _OPEN, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _changed(shown(name))
    return os.fdopen(descriptor, "rb", buffering=0)


def read_small(tree: Path, name: str, most: int) -> bytes:
    """Of a file at the tree's top. Raises UnsafeTreeError when it is longer than `most` bytes, or none."""
    try:
        with folders.Descent(tree) as place, open_file(name, place.here) as file:
            content = file.read(most + 1)
    except OSError as error:
        raise UnsafeTreeError(f"{name} of the environment can't be read: {error}. Build it again.") from error
    if len(content) > most:
        raise UnsafeTreeError(f"{name} of the environment is too large. Remove the package that changed it.")
    return content


def shown(path: str) -> str:
    """A path of a stranger's, for a sentence: short, on one line."""
    return ascii(path)[1:-1][:200]


def _join(below: str, name: str) -> str:
    return f"{below}/{name}" if below else name


def _check_name(path: str, name: str, bounds: TreeBounds) -> None:
    if len(os.fsencode(path)) > bounds.longest_path:
        raise UnsafeTreeError(f"{shown(path)[:80]}... lies too deep. Remove the package that made it.")
    if name.startswith(_WHITEOUT):
        raise UnsafeTreeError(
            f"{shown(path)} has a name that removes files in an image. Remove the package that made it."
        )


def _changed(path: str) -> UnsafeTreeError:
    return UnsafeTreeError(f"{path} changed while it was read. Build the environment again.")
