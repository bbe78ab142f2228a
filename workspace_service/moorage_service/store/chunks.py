"""Questions about many ids: a database takes only so many values in one statement."""

from collections.abc import Iterable, Iterator
from itertools import islice

CHUNK = 500


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """All of them, in their order, so many at a time as one `IN (...)` is to hold."""
    left = iter(ids)
    while chunk := list(islice(left, CHUNK)):
        yield chunk
