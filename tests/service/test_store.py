"""The store: transactions, times, and the schema's history, on both databases."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from moorage_service.settings import Settings
from moorage_service.store import migrations
from moorage_service.store.database import Database
from moorage_service.store.migrations import SchemaError
from moorage_service.store.tables import LimitRow, SessionRow, Table, UserRow, new_id
from moorage_service.store.text import storable
from tests.service.databases import each_database

NOW = datetime(2026, 11, 21, 6, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def empty(settings: Settings) -> Iterator[Database]:
    found = Database(settings.sqlalchemy_url)
    yield found
    found.close()


@pytest.fixture
def database(empty: Database) -> Database:
    empty.migrate()
    return empty


def add_user(database: Database, name: str = "ada", created_at: datetime = NOW) -> None:
    with database.begin() as session:
        session.add(UserRow(hub_name=name, created_at=created_at))


@each_database
def test_the_steps_make_the_tables_as_they_are_declared(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
        assert migrations.current(connection) == migrations.head()


@each_database
def test_a_second_start_changes_nothing(database: Database) -> None:
    add_user(database)
    database.migrate()
    with database.read() as session:
        assert session.scalars(select(UserRow.hub_name)).all() == ["ada"]


@each_database
def test_two_services_that_start_at_once_make_one_schema(settings: Settings, empty: Database) -> None:
    errors: list[Exception] = []
    gate = threading.Barrier(4)

    def start() -> None:
        database = Database(settings.sqlalchemy_url)
        gate.wait()
        try:
            database.migrate()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    add_user(empty)


@each_database
def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer version"):
        database.migrate()


@each_database
def test_a_database_that_is_not_ours_is_left_alone(empty: Database) -> None:
    with empty.engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (x INTEGER)"))
    with pytest.raises(SchemaError, match="empty database"):
        empty.migrate()


@each_database
def test_what_fails_half_way_is_rolled_back(database: Database) -> None:
    def half() -> None:
        with database.begin() as session:
            session.add(UserRow(hub_name="ada", created_at=NOW))
            session.flush()
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        half()
    with database.read() as session:
        assert session.scalars(select(UserRow)).all() == []


@each_database
def test_times_are_the_same_moment_with_every_zone_and_database(database: Database) -> None:
    add_user(database, created_at=NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))
    with database.read() as session:
        read = session.scalars(select(UserRow.created_at)).one()
    assert read == NOW
    assert read.tzinfo is UTC


@each_database
def test_what_is_read_stays_as_it_was_while_others_write(database: Database) -> None:
    add_user(database)
    with database.read() as session:
        before = session.scalars(select(UserRow.hub_name)).all()
        add_user(database, "bob")
    assert before == ["ada"]
    with database.read() as session:
        assert len(session.scalars(select(UserRow)).all()) == 2


@each_database
def test_writers_at_once_wait_for_each_other_and_lose_nothing(database: Database) -> None:
    with database.begin() as session:
        session.add(LimitRow(id="li-1", scope="everyone", resource="cpu", amount=0, created_at=NOW))

    def add(_number: int) -> None:
        with database.begin() as session:
            row = session.scalars(select(LimitRow).with_for_update()).one()
            row.amount += 1

    threads = [threading.Thread(target=add, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.scalars(select(LimitRow.amount)).one() == 10


@each_database
def test_a_row_without_its_owner_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError), database.begin() as session:
        session.add(SessionRow(hash="x", user_id="us-nobody", hub_token=b"", expires_at=NOW))


def test_ids_are_names_that_files_and_kubernetes_take() -> None:
    made = {new_id("cl") for _ in range(1000)}
    assert len(made) == 1000
    assert all(each.startswith("cl-") and each.replace("-", "").isalnum() and each == each.lower() for each in made)


@each_database
def test_text_that_quotes_a_users_program_can_be_kept(database: Database) -> None:
    odd = "it said \0 and half a pair \ud800"
    with database.begin() as session:
        session.add(UserRow(hub_name=storable(odd), created_at=NOW))
    with database.read() as session:
        assert session.scalars(select(UserRow.hub_name)).one() == "it said  and half a pair ?"
