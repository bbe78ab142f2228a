"""Sessions on SQLite or PostgreSQL.

`begin()` is a write transaction: on SQLite it takes the write lock at once (BEGIN IMMEDIATE), for SQLAlchemy drops
FOR UPDATE there silently, and a transaction that reads first and writes later would fail as busy. `read()` never writes.
No network call and no file work belongs inside either.

What was committed is on the disk (SQLite: `synchronous=FULL`, a few milliseconds a commit): whoever was answered keeps what was answered,
also when the power fails.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from moorage_service.store import migrations
from moorage_service.store.records import from_json

T = TypeVar("T")

BUSY_S = 30  # how long a writer waits for the one before it
# Of psycopg. A server that is gone or cannot be reached any more is noticed; a writer that is stopped holds its locks no longer.
POSTGRESQL: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "tcp_user_timeout": 30_000,
    "options": f"-c lock_timeout={BUSY_S}s -c idle_in_transaction_session_timeout=60s",
}


class OutcomeUnknownError(Exception):
    """The store's answer to a commit was lost: what was written is there, or none of it is."""


# The store is away, full or busy: no fault of what was asked of it, which may be asked again.
FAILURES = (OperationalError, InterfaceError, InternalError, PoolTimeout, OutcomeUnknownError)


class Database:
    def __init__(self, url: str) -> None:
        self.url = url
        sqlite = url.startswith("sqlite")
        if sqlite:
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # As many connections as requests are served at once (FastAPI's 40 threads), and those of our own threads.
        self.engine = create_engine(
            url,
            connect_args={"timeout": BUSY_S} if sqlite else POSTGRESQL,
            pool_pre_ping=not sqlite,
            pool_size=10,
            max_overflow=40,
            json_serializer=_to_json,
            json_deserializer=from_json,
        )
        if sqlite:
            _prepare_sqlite(self.engine)
        self._write = sessionmaker(self.engine.execution_options(moorage_write=True), expire_on_commit=False)
        self._read = sessionmaker(self.engine, expire_on_commit=False)

    def migrate(self) -> None:
        """Brings the schema to this program's version. Raises SchemaError for a database that is not ours, or of a newer version."""
        with self.engine.execution_options(moorage_write=True).begin() as connection:
            migrations.upgrade(connection)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Commits at the end of the block, or writes nothing. Raises OutcomeUnknownError when the answer to the commit is lost."""
        with self._write() as session:
            session.begin()
            yield session
            session.flush()
            try:
                session.commit()
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise OutcomeUnknownError(str(error.orig)) from error
                raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        with self._read() as session:
            yield session

    def amend(self, work: Callable[[Session], T]) -> T:
        """`work` on a session that writes nothing; only if it changed rows there, again in a write transaction, from the rows as they
        are then.

        For what is done often and seldom changes anything. `work` may run twice: it changes rows as objects, and nothing else.
        """
        with self._read() as session, session.no_autoflush:
            answer = work(session)
            if not (session.new or session.deleted or any(session.is_modified(row) for row in session.dirty)):
                return answer
        with self.begin() as session:
            return work(session)

    def close(self) -> None:
        self.engine.dispose()


def _to_json(value: object) -> str:
    """Not escaped, so that half a surrogate pair is refused as in any text: no answer could hold it either."""
    return json.dumps(value, ensure_ascii=False)


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        _use_wal(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_S * 1000}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        write = connection.get_execution_options().get("moorage_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _use_wal(connection: sqlite3.Connection) -> None:
    """The first connection of all switches the file. Those that come at the same moment are told "locked", without any wait."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
