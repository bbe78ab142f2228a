"""Questions about many ids: a database takes only so many values in one statement."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVarTuple

from sqlalchemy import Row, Select
from sqlalchemy.orm import InstrumentedAttribute, Session

CHUNK = 500
Columns = TypeVarTuple("Columns")


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """All of them, in their order, so many at a time as one `IN (...)` is to hold."""
    left = iter(ids)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def rows_among(
    session: Session, query: Select[*Columns], column: InstrumentedAttribute[str], ids: Iterable[str]
) -> list[Row[*Columns]]:
    """What `query` finds where `column` is one of `ids`; its order holds among those of one chunk only."""
    return [row for chunk in chunks(ids) for row in session.execute(query.where(column.in_(chunk)))]
