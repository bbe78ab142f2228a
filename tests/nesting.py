"""Folders nested deeper than Python 3.11's shutil and os.walk can follow, and than a path can say."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage import folders

DEPTH = 1200
Nest = Callable[[Path], None]


@contextmanager
def nesting() -> Iterator[Nest]:
    """Puts such folders below the one that it is given, and removes what is left of them in the end: pytest could not."""
    given: list[Path] = []

    def nest(top: Path) -> None:
        given.append(top)
        nest_below(top)

    try:
        yield nest
    finally:
        for top in given:
            folders.remove(top)


def nest_below(top: Path, levels: int = DEPTH) -> None:
    """Folders in folders, made by descriptors, and a file in the last. They belong to whom `top` belongs to."""
    owner = top.stat()
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("nested", dir_fd=here)
        below = os.open("nested", os.O_RDONLY, dir_fd=here)
        os.fchown(below, owner.st_uid, owner.st_gid)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
