"""What lies in folders of an installation that goes on working."""

import os
from collections.abc import Iterator
from pathlib import Path


def contents(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Of plain files at any depth; what goes before it is read (with its run, say) is passed over."""
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for path in (Path(parent, name) for name in names):
                try:
                    if path.is_file() and not path.is_symlink():
                        yield path, path.read_bytes()
                except FileNotFoundError:
                    continue
