"""What is written beside a workload's records, so that it can be known again when a database is lost or older than what runs.

`<root>/<workload>/<name>.json`, 0600 in a folder of 0700. The service keeps a card named "service", the hub's spawner one named "hub".
A card goes with the workload's records (`LocalProcesses.forget`).
"""

import os
from pathlib import Path
from typing import Any

from moorage_spawners.shim import files


class Cards:
    """The cards under one folder of workloads."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, workload_id: str, name: str, content: dict[str, Any]) -> None:
        """Writes the card whole, or not at all; the same content again writes nothing. Raises OSError when the disk is full."""
        if self.read(workload_id, name) == content:
            return
        folder = self._root / workload_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(str(folder / f"{name}.json"), content)

    def read(self, workload_id: str, name: str) -> dict[str, Any] | None:
        """None when there is none, or one that is not whole."""
        try:
            found = files.read(str(self._root / workload_id / f"{name}.json"))
        except (ValueError, NotADirectoryError):
            return None
        return found if isinstance(found, dict) else None

    def workload_ids(self) -> list[str]:
        """Every workload that has records or a card."""
        try:
            with os.scandir(self._root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
