"""Tables as CSV, for spreadsheets: UTF-8, a header line, and no cell that a spreadsheet would carry out."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response

TYPE = "text/csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_WORDS = re.compile(r"[^a-z0-9]+")

Cell = str | int | float | None


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Numbers stay numbers. Text that begins like a formula gets an apostrophe in front, by which spreadsheets know text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_harmless(cell) for cell in row])
    return text.getvalue()


def sheet(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """The answer that a browser keeps as a file of that name."""
    stem = _WORDS.sub("-", name.lower()).strip("-")
    headers = {"Content-Disposition": f'attachment; filename="{stem}.csv"', "X-Content-Type-Options": "nosniff"}
    return Response(as_csv(columns, rows).encode(), media_type=f"{TYPE}; charset=utf-8", headers=headers)


def _harmless(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA):
        return f"'{cell}"
    return cell


def _asks_for_csv(
    request: Request,
    wanted: Annotated[
        Literal["json", "csv"] | None, Query(alias="format", description="Else as the header Accept says.")
    ] = None,
) -> bool:
    if wanted is not None:
        return wanted == "csv"
    kinds = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return TYPE in kinds and "application/json" not in kinds


AsCsv = Annotated[bool, Depends(_asks_for_csv)]
ALSO_CSV: dict[int | str, dict[str, object]] = {200: {"content": {TYPE: {"schema": {"type": "string"}}}}}
