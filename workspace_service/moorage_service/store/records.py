"""Records that this program can't read: written by a newer version, or damaged. Each is set aside by itself; all others go on.

A column of JSON that is none is read as `Unreadable`, which fails where it is used instead of where its row is fetched, so that no list
is lost for one row. `shown` leaves out of a list what can't be shown; `quarantine.py` tells the owner and the admin.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from sqlalchemy.exc import NoResultFound

Row = TypeVar("Row")
View = TypeVar("View")

log = logging.getLogger(__name__)
_said: set[str] = set()
_MOST_SAID = 10_000

# What reading a record raises whose shape or words are not those we know.
ODD = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, NoResultFound)


class UnreadableError(Exception):
    """A record can't be read; the text says which one and why."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"The record {key} can't be read by this version of Moorage: {why}")
        self.key = key
        self.why = why


class Unreadable:
    """Stands for a value that is no JSON. Whatever is asked of it raises ValueError."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _fail(self, *_given: object) -> NoReturn:
        raise ValueError(f"a column holds what is no JSON: {self.text[:40]!r}")

    __getitem__ = __iter__ = __len__ = __contains__ = __bool__ = keys = get = items = values = _fail


def from_json(text: str | bytes) -> Any:
    """For the database: JSON, or `Unreadable`."""
    try:
        return json.loads(text)
    except ValueError:
        return Unreadable(text if isinstance(text, str) else text.decode(errors="replace"))


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Raises UnreadableError, naming the record, for whatever odd there is in it."""
    try:
        yield
    except UnreadableError:
        raise
    except ODD as error:
        raise UnreadableError(key, words_of(error)) from error


def words_of(error: Exception) -> str:
    """One line, for people: what about the record is odd."""
    text = str(error).strip().splitlines()
    what = f"no {error.args[0]!r}" if isinstance(error, KeyError) and error.args else text[0] if text else ""
    return f"{type(error).__name__}: {what}"[:300] if what else type(error).__name__


def shown(rows: Iterable[Row], view: Callable[[Row], View], key: Callable[[Row], str]) -> list[View]:
    """The views of those rows that can be read; each other one is named in the log, once."""
    found = []
    for row in rows:
        try:
            with reading(key(row)):
                found.append(view(row))
        except UnreadableError as error:
            if error.key not in _said and len(_said) < _MOST_SAID:
                _said.add(error.key)
                log.error("left out of a list: %s", error)
    return found
