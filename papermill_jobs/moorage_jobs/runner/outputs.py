"""The notebook as it is kept: outputs within their bounds, merged, masked, and written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from moorage_jobs.runner.redaction import Redactor

DEEPEST = 100  # levels of JSON in an output: what is deeper can't be kept, and ends programs that read it
_OVERHEAD = 100  # bytes that an output costs beside its content
EVALUE, _TRACE_LINE = 2_000, 20_000  # characters of an error that is too large to be kept whole


class OutputBudget:
    """How much a cell and the whole notebook may still show. Sizes are those of the text or JSON."""

    def __init__(self, cell_bytes: int, notebook_bytes: int) -> None:
        self._cell_limit = cell_bytes
        self._notebook_left = notebook_bytes
        self._cell_used = 0
        self._told = False
        self._displays: dict[str, int] = {}  # what was put in the place of a display takes

    def new_cell(self) -> None:
        self._cell_used = 0
        self._told = False

    def cleared(self) -> None:
        """The cell's outputs were cleared: it may show anew, and the notebook gets back what they took."""
        self._notebook_left += self._cell_used
        self.new_cell()

    def admit(self, content: dict[str, Any], msg_type: str) -> dict[str, Any] | None:
        """The content of an output message as it may be kept: whole, cut short with a notice, or None for nothing."""
        if self._told:
            return None
        if nested_too_deep(content):
            self._take(_OVERHEAD)
            notice = f"[Not shown: this output is nested more than {DEEPEST} levels deep.]"
            return {**content, "data": {"text/plain": notice}, "metadata": {}}
        left = min(self._cell_limit - self._cell_used, self._notebook_left)
        size = output_size(content, msg_type) + _OVERHEAD
        if size <= left:
            self._take(size)
            return content
        if msg_type == "error":  # the trace says why the run failed: keep its end at least
            cut = {
                **content,
                "evalue": str(content.get("evalue", ""))[:EVALUE],
                "traceback": [str(line)[-_TRACE_LINE:] for line in content.get("traceback", [])[-5:]],
            }
            self._take(output_size(cut, msg_type))
            return cut
        self._told = True
        notice = f"\n[Output cut short: it reached {self._cell_limit} bytes for a cell. The log has more.]\n"
        if self._notebook_left <= self._cell_limit - self._cell_used:
            notice = "\n[Output cut short: the notebook reached its size limit. The log has more.]\n"
        if msg_type == "stream":
            text = str(content.get("text", "")).encode()[: max(0, left)].decode("utf-8", "ignore")
            self._take(len(text))
            return {**content, "text": text + notice}
        kept = {"text/plain": notice.strip()}
        return {**content, "data": kept, "metadata": {}}

    def replace(self, display_id: str, content: dict[str, Any], places: int) -> bool:
        """Whether a display may be replaced at each of its places: by what is within a cell's bound there, and in all takes
        no more than the notebook has left beyond what stood there.
        """
        size = output_size(content, "display_data") * places
        before = self._displays.get(display_id, 0)
        if size > self._cell_limit * places or size - before > self._notebook_left or nested_too_deep(content):
            return False
        self._notebook_left -= size - before
        self._displays[display_id] = size
        return True

    def _take(self, size: int) -> None:
        self._cell_used += size
        self._notebook_left -= size


def output_size(content: dict[str, Any], msg_type: str) -> int:
    """Bytes that an output message's content takes."""
    if msg_type == "stream":
        return len(str(content.get("text", "")).encode("utf-8", "replace"))
    return len(json.dumps(content, default=str))


def nested_too_deep(content: object) -> bool:
    level = [content]
    for _ in range(DEEPEST):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def kept_form(notebook: Any, redactor: Redactor) -> dict[str, Any]:
    """The notebook as plain JSON values: streams merged, secrets masked. The given one stays as it is."""
    document = {**notebook, "cells": [_cell(cell) for cell in notebook["cells"]]}
    kept = redactor.tree(document)
    assert isinstance(kept, dict)
    return kept


def _cell(cell: Any) -> dict[str, Any]:
    if cell.get("cell_type") != "code":
        return dict(cell)
    return {**cell, "outputs": merge_streams(cell.get("outputs", []))}


def merge_streams(outputs: list[Any]) -> list[Any]:
    """Outputs with neighbouring texts of the same stream as one, so that a value printed in pieces is whole again."""
    merged: list[Any] = []
    run: list[Any] = []
    for output in [*outputs, None]:
        same = bool(run) and output is not None and output.get("name") == run[0]["name"]
        if run and not (same and output["output_type"] == "stream"):
            merged.append({**run[0], "text": "".join("".join(one["text"]) for one in run)})
            run = []
        if output is None:
            break
        if output["output_type"] == "stream":
            run.append(output)
        else:
            merged.append(output)
    return merged


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def as_bytes(document: dict[str, Any]) -> bytes:
    """A notebook as JupyterLab writes it."""
    return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace") + b"\n"
