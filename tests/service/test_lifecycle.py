"""Changes of a workload's row by two transactions at once."""

from collections.abc import Iterator

import pytest

from moorage.wire import Phase
from moorage_service.settings import Settings
from moorage_service.store.database import Database
from moorage_service.store.tables import WorkloadRow
from moorage_service.workloads import lifecycle
from tests.service.ledger_rows import NOW, Ledger

on_postgresql = pytest.mark.parametrize(
    "database_url", ["postgresql"], indirect=True
)  # SQLite lets one write at a time


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    made = Database(settings.sqlalchemy_url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def workload_id(database: Database) -> str:
    with database.begin() as session:
        ledger = Ledger(session)
        return str(ledger.claim(ledger.user("ada"), ledger.project("lab"), {"cpu": 1000}).id)


@on_postgresql
def test_a_stop_that_was_read_before_an_end_leaves_the_end_as_it_is(database: Database, workload_id: str) -> None:
    with database.begin() as stopping:
        workload = stopping.get_one(WorkloadRow, workload_id)
        with database.begin() as ending:
            row = ending.get_one(WorkloadRow, workload_id)
            lifecycle.ended(ending, row, Phase.FAILED, now=NOW, code="cluster.out_of_memory", reason="Out of memory.")
        lifecycle.ask_to_end(stopping, workload, now=NOW, reason="Stopped by its owner.")
        assert not lifecycle.enter(stopping, workload, Phase.READY, now=NOW)
        lifecycle.ended(stopping, workload, Phase.STOPPED, now=NOW, reason="Stopped by its owner.")
    with database.read() as session:
        found = session.get_one(WorkloadRow, workload_id)
        assert (found.phase, found.reason, found.target) == ("failed", "Out of memory.", "gone")
        assert found.ended_at == NOW


@on_postgresql
def test_what_was_changed_before_a_move_is_kept(database: Database, workload_id: str) -> None:
    with database.begin() as session:
        workload = session.get_one(WorkloadRow, workload_id)
        workload.details = {**workload.details, "url": "/user/ada/"}
        assert lifecycle.enter(session, workload, Phase.READY, now=NOW)
    with database.read() as session:
        found = session.get_one(WorkloadRow, workload_id)
        assert (found.phase, found.details["url"]) == ("ready", "/user/ada/")
