"""The hub's SQLite file: quick, and in trouble with words.

The hub writes many small things, each of them while it serves nobody else. So writes go to a log beside the file, without waiting for
the disk at each (a hub that is killed loses nothing by that; a power cut may cost the last moment), and readers hold no writer up.
"""

import logging
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

log = logging.getLogger(__name__)

# What SQLite says -> what a person can do. The hub shows it on its pages and in its API's answers.
TROUBLE = {
    "locked": "another program holds it. Nothing was changed: try again in a moment",
    "full": "its disk is full. Nothing was changed: ask an admin to make room, then try again",
    "disk I/O error": "its disk fails, or is full. Nothing was changed: ask an admin to look at it, then try again",
    "readonly": "it can't be written. Nothing was changed: ask an admin to look at the rights on its file and folder",
    "malformed": "it is damaged. Ask an admin to restore it from a backup; notebooks go on meanwhile",
    "not a database": "it is damaged. Ask an admin to restore it from a backup; notebooks go on meanwhile",
}


def in_words(path: Path, error: BaseException) -> str | None:
    """A sentence for a person, or None for an error that is not of the file or its disk."""
    said = str(error)
    return next(
        (f"The hub's database can't be used now: {words} ({path})." for key, words in TROUBLE.items() if key in said),
        None,
    )


def prepare(path: Path) -> None:
    """The file that the hub is about to open. It may be missing yet."""
    try:
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "PRAGMA wal_checkpoint(TRUNCATE)"
            )  # what a killed hub left: a plain copy of the file is whole
        finally:
            connection.close()
    except sqlite3.Error as error:
        log.error("%s", in_words(path, error) or error)  # the hub fails at it in its own way


def listen(path: Path, engine: Engine | type[Engine] = Engine) -> None:
    """To all that happens with the file from now on, in the hub's process."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        words = in_words(path, context.original_exception)
        if words is not None and context.sqlalchemy_exception is not None:
            log.error("%s", words)
            context.sqlalchemy_exception.jupyterhub_message = words  # type: ignore[attr-defined]
