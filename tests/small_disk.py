"""A disk of its own for a folder, small enough to be filled."""

import contextlib
import errno
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Until not a byte more can be written."""
        with open(self._ballast, "ab", buffering=0) as file:
            for size in (4096, 1):
                while _written(file, size):
                    pass

    def empty(self) -> None:
        self._ballast.unlink()


def _written(file: io.RawIOBase, size: int) -> bool:
    try:
        return bool(file.write(bytes(size)))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """At `folder`, which is made; skips the test where no disk can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = ["mount", "-t", "tmpfs", "-o", f"mode=700,size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(asked, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
