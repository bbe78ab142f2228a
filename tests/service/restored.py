"""A release's dump as a database of its own: into SQLite as it is, into PostgreSQL row by row on the schema of that release."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, create_engine, insert, select, text

from moorage_service.settings import Settings
from moorage_service.store import migrations
from moorage_service.store.database import Database


def restore(dump: Path, settings: Settings) -> None:
    folder = settings.state / "database"
    folder.mkdir(parents=True)
    file = folder / ("dump.sqlite" if settings.database_url else "service.sqlite")
    connection = sqlite3.connect(file)
    connection.executescript(dump.read_text())
    connection.close()
    if settings.database_url:
        source, target = create_engine(f"sqlite:///{file}"), Database(settings.sqlalchemy_url)
        with source.connect() as reading, target.engine.begin() as writing:
            copy_rows(reading, writing)
        source.dispose()
        target.close()


def copy_rows(source: Connection, target: Connection, to: str | None = None) -> None:
    """Makes the schema of a release (`to`; that of the source unless given) and fills it. What that release did not have is left out.

    Both schemas are read from the databases: today's tables may differ from that release's.
    """
    there, here = MetaData(), MetaData()
    there.reflect(source)
    migrations.upgrade(target, to=to or source.execute(select(there.tables["alembic_version"])).scalar_one())
    here.reflect(target)
    for table in here.sorted_tables:
        if table.name == "alembic_version":
            continue
        rows = [
            {name: _aware(value) for name, value in row._mapping.items() if name in table.c}
            for row in source.execute(select(there.tables[table.name]))
        ]
        if rows:
            target.execute(insert(table), rows)
        if target.dialect.name == "postgresql" and "id" in table.c and table.c.id.autoincrement is True:
            target.execute(
                text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM {table.name}")
            )


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
