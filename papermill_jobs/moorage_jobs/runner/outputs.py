"""The notebook as it is kept: outputs within their bounds, merged, masked, and written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from moorage_jobs.runner.redaction import Redactor

_OVERHEAD = 100  # bytes that an output costs beside its content


class OutputBudget:
    """How much a cell and the whole notebook may still show. Sizes are those of the text or JSON."""

    def __init__(self, cell_bytes: int, notebook_bytes: int) -> None:
        self._cell_limit = cell_bytes
        self._notebook_left = notebook_bytes
        self._cell_used = 0
        self._told = False

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
        left = min(self._cell_limit - self._cell_used, self._notebook_left)
        size = output_size(content, msg_type) + _OVERHEAD
        if size <= left:
            self._take(size)
            return content
        if msg_type == "error":  # the trace says why the run failed: keep its end at least
            self._take(min(size, max(0, left)))
            return {
                **content,
                "evalue": content.get("evalue", "")[:2000],
                "traceback": content.get("traceback", [])[-5:],
            }
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

    def fits(self, content: dict[str, Any], msg_type: str) -> bool:
        """Whether an output that replaces another in place is within a cell's bound."""
        return output_size(content, msg_type) <= self._cell_limit

    def _take(self, size: int) -> None:
        self._cell_used += size
        self._notebook_left -= size


def output_size(content: dict[str, Any], msg_type: str) -> int:
    """Bytes that an output message's content takes."""
    if msg_type == "stream":
        return len(str(content.get("text", "")).encode("utf-8", "replace"))
    return len(json.dumps(content, default=str))


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
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def as_bytes(document: dict[str, Any]) -> bytes:
    """A notebook as JupyterLab writes it."""
    return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace") + b"\n"
