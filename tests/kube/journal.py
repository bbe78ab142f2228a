"""What the node changed on this machine, written down before it is relied on, so that whoever comes after a kill -9 can undo it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class Journal:
    """One JSON object a line: {"kind": ..., ...}. A line that was cut short by a kill is as if it were not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, kind: str, **facts: object) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, **facts}) + "\n")

    def entries(self, kind: str) -> Iterator[Entry]:
        """In the order they were noted; none if there is no journal."""
        if not self._path.exists():
            return
        for line in self._path.read_text().splitlines():
            try:
                entry: Entry = json.loads(line)
            except ValueError:
                continue
            if entry["kind"] == kind:
                yield entry
