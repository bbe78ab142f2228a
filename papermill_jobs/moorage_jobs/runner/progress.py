"""The state of each cell, and the error if there is one, as the run's page shows them."""

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from moorage.wire.jobs import CellProgress, RunProgress
from moorage_jobs.runner.redaction import Redactor

_LINE = 200
_VALUE = 2_000
_TRACEBACK = 20_000
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class CellFailure:
    """Why the run failed, in plain text."""

    name: str
    value: str
    cell: int | None = None
    traceback: str | None = None

    @classmethod
    def of_cell(cls, notebook: Any, index: int) -> "CellFailure | None":
        """The error that a cell shows; None if it shows none."""
        errors = [output for output in notebook.cells[index].get("outputs", []) if output["output_type"] == "error"]
        if not errors:
            return None
        last = errors[-1]
        traceback = _ANSI.sub("", "\n".join(last.get("traceback", [])))
        return cls(last["ename"], _ANSI.sub("", last["evalue"]), index, traceback)


@dataclass
class Progress:
    """Counts its reports, so that one that arrives late is known as old."""

    redactor: Redactor
    failure: CellFailure | None = None
    _cells: dict[int, CellProgress] = field(default_factory=dict)
    _sequence: int = 0

    def expect(self, notebook: Any) -> None:
        """Takes note of the notebook's code cells, all pending. Done once, at the first cell."""
        if self._cells:
            return
        for index, cell in enumerate(notebook.cells):
            source = cell.source.strip()
            if cell.cell_type == "code" and source:
                line = self.redactor.text(source.splitlines()[0])[:_LINE]
                self._cells[index] = CellProgress(index=index, state="pending", source=line)

    def change(self, index: int, state: Literal["running", "completed", "failed"]) -> bool:
        """Takes note of a cell's change; False for a cell that is not shown."""
        if index not in self._cells:
            return False
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        cell = replace(self._cells[index], state=state)
        self._cells[index] = replace(cell, started_at=now) if state == "running" else replace(cell, ended_at=now)
        return True

    def report(self) -> RunProgress:
        self._sequence += 1
        failure = self.failure or CellFailure("", "")
        return RunProgress(
            sequence=self._sequence,
            cells=list(self._cells.values()),
            error_name=failure.name or None,
            error_value=self.redactor.text(failure.value)[:_VALUE] or None,
            error_cell=failure.cell,
            traceback=self.redactor.text(failure.traceback)[-_TRACEBACK:] if failure.traceback else None,
        )
