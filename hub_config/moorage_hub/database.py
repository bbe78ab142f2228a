"""The hub's database: a SQLite file, quick, or PostgreSQL; and in trouble with words.

The hub writes many small things, each of them while it serves nobody else. So SQLite's writes go to a log beside the file, without
waiting for the disk at each (a hub that is killed loses nothing by that; a power cut may cost the last moment), and readers hold no
writer up. Of PostgreSQL it is known soon when it can't be reached any more.
"""

import logging
import sqlite3
from typing import Any

from sqlalchemy import Engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

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
# PostgreSQL's code of an error (its manual, appendix A), or the code's class -> the same.
SERVER_TROUBLE = {
    "53100": TROUBLE["full"],
    "53300": "it takes no more connections. Nothing was changed: try again in a moment",
    "55P03": TROUBLE["locked"],
    "25006": "it can't be written. Nothing was changed: ask an admin to look at the server",
    "28": "it does not let the hub in. Ask an admin to look at the user and password in database_url",
}
NO_ANSWER = "it does not answer. Try again in a moment; notebooks go on meanwhile"
# Of psycopg, as the service has it: while a server that is gone holds the hub up, it serves nobody.
POSTGRESQL: dict[str, Any] = {"connect_timeout": 10, "keepalives_idle": 10, "tcp_user_timeout": 30_000}


def arguments(url: str) -> dict[str, Any]:
    """What the hub's engine is made with, beside its URL."""
    return {} if _is_sqlite(url) else {"connect_args": POSTGRESQL}


def in_words(url: str, error: BaseException) -> str | None:
    """A sentence for a person, or None for an error that is not of the database, but of what was asked of it.

    `error`: of sqlite3, or SQLAlchemy's around psycopg's.
    """
    place = f" ({make_url(url).database})" if _is_sqlite(url) else ""
    words = _sqlites(error) if _is_sqlite(url) else _servers(error)
    return f"The hub's database can't be used now: {words}{place}." if words else None


def _sqlites(error: BaseException) -> str | None:
    said = str(error)
    return next((words for key, words in TROUBLE.items() if key in said), None)


def _servers(error: BaseException) -> str | None:
    if not isinstance(error, OperationalError | InterfaceError | InternalError):
        return None
    code = getattr(error.orig, "sqlstate", None) or ""
    return SERVER_TROUBLE.get(code) or SERVER_TROUBLE.get(code[:2]) or NO_ANSWER


def prepare(url: str) -> None:
    """The database that the hub is about to open. A file may be missing yet."""
    if not _is_sqlite(url):
        return
    try:
        connection = sqlite3.connect(make_url(url).database or "")
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "PRAGMA wal_checkpoint(TRUNCATE)"
            )  # what a killed hub left: a plain copy of the file is whole
        finally:
            connection.close()
    except sqlite3.Error as error:
        log.error("%s", in_words(url, error) or error)  # the hub fails at it in its own way


def listen(url: str, engine: Engine | type[Engine] = Engine) -> None:
    """To all that happens with the database from now on, in the hub's process."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        if context.sqlalchemy_exception is None:
            return
        words = in_words(url, context.original_exception if _is_sqlite(url) else context.sqlalchemy_exception)
        if words is not None:
            log.error("%s", words)
            context.sqlalchemy_exception.jupyterhub_message = words  # type: ignore[attr-defined]


def _is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")
