"""Fault 24: the service is replaced by a newer one, and back, under notebooks and clusters that go on.

No kernel and no cluster is lost. A database of the release before is brought up with all that lives in it; one of a newer version is
refused up front, in a sentence, and nothing is touched.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from moorage_service.recovery import cards
from tests.faults.checking import check
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.faults.test_12_restored_from_a_copy import held, pids, start_cluster
from tests.service.restored import copy_rows

RELEASED = "0001"  # the schema of 0.1.0


@pytest.fixture
def lively(installation: Installation, scale: Scale) -> tuple[Installation, dict[str, str]]:
    """20 notebooks and 3 clusters: those of one person for each project are one, so every person has projects of their own."""
    installation.start()
    owners: dict[str, str] = {}
    people = 20 if scale.full else 3
    for number in range(people):
        name = f"person-{number}"
        installation.tokens[name] = installation.hub.add_user(name)
        with installation.api(name) as http:
            assert http.get("/me").status_code == 200
        owners[installation.start_notebook(name)] = name
    for number in range(3 if scale.full else 1):
        owners[start_cluster(installation, f"person-{number}")] = f"person-{number}"
    return installation, owners


def all_go_on(installation: Installation, owners: dict[str, str], before: dict[tuple[str, str], int | None]) -> None:
    for workload_id, owner in owners.items():
        installation.wait(workload_id, "ready", user=owner)
    assert pids(installation) == before, "a process died of the change"
    assert held(installation) == set(owners)


def test_nothing_is_lost_when_the_service_is_replaced(
    lively: tuple[Installation, dict[str, str]], scale: Scale, report: Report
) -> None:
    installation, owners = lively
    before = pids(installation)
    rounds = scale.rounds(10) if scale.full else 2
    for number in range(rounds):
        service = installation.services[-1]
        if number % 2:
            service.kill()
        else:
            service.stop()
        installation.start()
        all_go_on(installation, owners, before)
    check(installation)
    report(24, case="replaced", rounds=rounds, notebooks_and_clusters=len(owners), lost=0)


def test_a_database_of_the_release_before_is_brought_up_with_all_that_lives(
    lively: tuple[Installation, dict[str, str]], scale: Scale, report: Report
) -> None:
    installation, owners = lively
    before = pids(installation)
    rounds = scale.rounds(10) if scale.full else 1
    for _ in range(rounds):
        installation.services[-1].stop()
        as_released(installation)
        installation.start()
        all_go_on(installation, owners, before)
        with installation.context() as context:  # and would be known again from now on
            assert all(cards.cards_of(context).read(each, cards.NAME) for each in owners)
    check(installation)
    report(24, case="from 0.1.0", rounds=rounds, notebooks_and_clusters=len(owners), lost=0)


def as_released(installation: Installation) -> None:
    """The database as 0.1.0 would have left it; that release wrote no cards either."""
    path = installation.state / "database" / "service.sqlite"
    older = path.with_name("older.sqlite")
    source, target = create_engine(f"sqlite:///{path}"), create_engine(f"sqlite:///{older}")
    with source.connect() as reading, target.begin() as writing:
        copy_rows(reading, writing, to=RELEASED)
    source.dispose()
    target.dispose()
    for each in path.parent.glob("service.sqlite*"):
        each.unlink()
    older.rename(path)
    for card in (installation.state / "workloads").glob(f"*/{cards.NAME}.json"):
        card.unlink()


def test_an_older_program_refuses_a_newer_database_and_touches_nothing(
    lively: tuple[Installation, dict[str, str]], report: Report
) -> None:
    installation, owners = lively
    before = pids(installation)
    installation.services[-1].stop()
    database = installation.state / "database" / "service.sqlite"
    with newer(database):
        content = database.read_bytes()
        done = subprocess.run(
            [sys.executable, "-m", "moorage_service.main"], capture_output=True, text=True, timeout=120,
            env={"MOORAGE_SERVICE_STATE": str(installation.state), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 1
        assert "of a newer version of Moorage" in done.stderr
        assert "Start that version, or restore a backup made by this one." in done.stderr
        assert "Traceback" not in done.stderr
        assert database.read_bytes() == content
        told = subprocess.run(
            [sys.executable, "-m", "moorage.cli", "admin", "check", "--state", str(installation.state)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert told.returncode == 2
        assert "schema is '9999'" in told.stderr
        assert pids(installation) == before
    installation.start()
    all_go_on(installation, owners, before)
    check(installation)
    report(24, case="rolled back: refused up front", notebooks_and_clusters=len(owners), lost=0)


@contextmanager
def newer(database: Path) -> Iterator[None]:
    """The mark of a version that is to come."""
    (present,) = set_mark(database, "9999")
    yield
    set_mark(database, present)


def set_mark(database: Path, mark: str) -> tuple[str]:
    connection = sqlite3.connect(database)
    (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.execute("UPDATE alembic_version SET version_num = ?", (mark,))
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with suppress(FileNotFoundError):
        database.with_name("service.sqlite-wal").unlink()
    return (str(found[0]),)
