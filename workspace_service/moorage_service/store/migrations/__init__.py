"""The schema's history. `upgrade` runs at each start.

A developer adds a step with `python -m moorage_service.store.migrations "what it does"`, and reads it before committing it.

A step, once released, is never changed. Steps work on tables as they were then, so they import nothing of ours. They only go forward:
the way back is a backup.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

FOLDER = Path(__file__).parent
_ONE_AT_A_TIME = 7_066_372_483  # an arbitrary number that is ours


class SchemaError(Exception):
    """This database can't be used; the text says why and what to do."""


def upgrade(connection: Connection, to: str = "head") -> None:
    """Brings the database to `head()`, in the caller's transaction: all of it or nothing. At head already: nothing.

    `to`: an earlier revision, for tests of the way from there.
    Raises SchemaError when it was made by a newer version, or holds tables that are not ours.
    """
    if connection.dialect.name == "postgresql":  # SQLite: the write lock is held
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
    present = current(connection)
    if present == head():
        return
    if present is not None and present not in known():
        raise SchemaError(
            f"The database is of a newer version of Moorage (its schema is {present!r}, this one knows up to {head()!r}). "
            "Start that version, or restore a backup made by this one."
        )
    if present is None and inspect(connection).get_table_names():
        raise SchemaError(
            "The database holds tables, but not the mark of any version of Moorage. Give the service an empty database "
            "(`database_url` in settings.yaml), or move the file away."
        )
    command.upgrade(_config(connection), to)


def current(connection: Connection) -> str | None:
    """The database's own revision; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The revision of this program."""
    found = _scripts().get_current_head()
    assert found is not None
    return found


def known() -> frozenset[str]:
    """The revisions that this program can start from."""
    return frozenset(script.revision for script in _scripts().walk_revisions())


def new_step(connection: Connection, message: str) -> Path:
    """Writes a step from the database, which must be at head, to the tables as they are declared now."""
    number = len(list(_scripts().walk_revisions())) + 1
    script = command.revision(_config(connection), message, autogenerate=True, rev_id=f"{number:04}")
    assert script is not None
    assert not isinstance(script, list)
    return Path(script.path)


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
