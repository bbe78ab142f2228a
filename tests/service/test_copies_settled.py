"""What runs when an older copy of the store is put back: adopted, gone on with or ended, and nothing begun again."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text

from moorage.wire import Phase
from moorage_service.recovery import backup, restore
from moorage_service.recovery.settle import settle
from moorage_service.settings import Settings
from moorage_service.store.tables import (
    AuditRow,
    ClusterRow,
    JobRow,
    ReservationRow,
    WorkloadRow,
)
from tests.service import postgres
from tests.service.databases import each_database
from tests.service.town import Town, open_state, serve_town  # noqa: F401


def copy_of(town: Town, folder: Path) -> Path:
    path = folder / "copy.tar"
    backup.make(town.context.settings, path, backup.parts_of(outputs=True, homes=False, environments=False))
    return path


def put_back(town: Town, copy: Path) -> None:
    town.context.database.close()
    restore.put_back(town.context.settings.state, copy)
    town.reopen()


@pytest.fixture
def programs() -> Iterator[None]:
    """PostgreSQL's own programs, where Debian's wrappers on PATH choose a server by themselves."""
    found = postgres.find_programs()
    before = os.environ["PATH"]
    if found is not None:
        os.environ["PATH"] = f"{found}:{before}"
    yield
    os.environ["PATH"] = before


@each_database
@pytest.mark.usefixtures("programs")
def test_what_began_after_the_copy_is_adopted(town: Town, tmp_path: Path) -> None:
    with town.context.database.begin() as session:  # as it was before any of it was asked for
        later = {
            table.name: [dict(row._mapping) for row in session.execute(select(table))] for table in reversed(TABLES)
        }
        for table in reversed(TABLES):
            session.execute(table.delete())
    if town.context.settings.database_url:
        write_url(town.context.settings)
    copy = copy_of(town, tmp_path)
    with town.context.database.begin() as session:
        for table in TABLES:
            for row in later[table.name]:
                session.execute(table.insert(), [row])
    put_back(town, copy)
    settle(town.context)
    town.step()
    assert town.nothing_died()
    with town.context.database.read() as session:
        for each in town.everything:
            assert session.get_one(ReservationRow, each).released_at is None
    assert set(town.audit()) >= {"store.restored", "workload.adopted"}
    assert town.ask(town.token, f"/clusters/{town.cluster}").status_code == 200


TABLES = [WorkloadRow.metadata.tables[name] for name in (
    "workloads", "reservations", "clusters", "tokens", "runs", "events", "idempotency",
)]  # fmt: skip


def write_url(settings: Settings) -> None:
    """The restored settings say where the database is."""
    (settings.state / "settings.yaml").write_text(json.dumps({"service": {"database_url": settings.database_url}}))


def test_what_the_copy_knows_to_be_starting_goes_on_as_it_runs_now(town: Town, tmp_path: Path) -> None:
    with town.context.database.begin() as session:
        cluster = session.get_one(ClusterRow, town.cluster)
        kept = (cluster.port_block, cluster.scale)
        cluster.port_block, cluster.scale = None, {}
        for each in town.everything:
            session.get_one(WorkloadRow, each).phase = Phase.PENDING.value
            session.get_one(ReservationRow, each).bound = False
        session.execute(text("DELETE FROM tokens"))
    copy = copy_of(town, tmp_path)
    with town.context.database.begin() as session:
        cluster = session.get_one(ClusterRow, town.cluster)
        cluster.port_block, cluster.scale = kept
    put_back(town, copy)
    settle(town.context)
    town.step()
    assert town.nothing_died()
    with town.context.database.read() as session:
        cluster = session.get_one(ClusterRow, town.cluster)
        assert (cluster.port_block, cluster.scale["workers"]) == (kept[0], ["worker-1", "worker-2"])
        assert all(session.get_one(ReservationRow, each).bound for each in town.everything)
    assert town.ask(town.token, f"/notebooks/{town.notebook}").json()["phase"] == "ready"


def test_what_ended_after_the_copy_is_not_begun_again(town: Town, tmp_path: Path) -> None:
    copy = copy_of(town, tmp_path)
    town.end_everything()
    put_back(town, copy)
    settle(town.context)
    town.step()
    assert town.context.processes.observe_all() == []
    for each in town.everything:
        row = town.row(each)
        assert row.ended_at is not None
        assert "after the copy of the store was made" in (row.reason or "")


def test_a_fire_that_may_have_been_made_is_not_made_again(town: Town, tmp_path: Path) -> None:
    due = datetime(2026, 1, 1, tzinfo=UTC)
    with town.context.database.begin() as session:
        job = session.scalars(select(JobRow)).one()
        job.schedule, job.next_fire_at = {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}, due
    copy = copy_of(town, tmp_path)
    put_back(town, copy)
    settle(town.context)
    with town.context.database.read() as session:
        next_fire = session.scalars(select(JobRow.next_fire_at)).one()
        said = session.scalars(select(AuditRow.why).where(AuditRow.action == "store.restored")).one()
    assert next_fire is not None
    assert next_fire > town.context.clock()
    assert said is not None
    assert "nightly" in said
