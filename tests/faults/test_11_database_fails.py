"""Fault 11: the database is killed, restarted, locked or full, or its answer to a commit is lost, while people create.

No 2xx without a durable record; a create that is asked again with its key is made once; refusals are sentences; the service recovers alone.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.faults.checking import check
from tests.faults.creating import creating
from tests.faults.figures import Report, Scale
from tests.faults.forgetful import ForgetfulProxy
from tests.faults.installation import Installation
from tests.service import postgres
from tests.service.databases import each_database
from tests.waiting import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL of this file's own, for it is killed."""
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres.server(programs) as made:
        yield made


@contextmanager
def on(server: postgres.Server) -> Iterator[Installation]:
    with psycopg.connect(f"host={server.folder} user=moorage dbname=postgres", autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    with Installation.make(server.url) as made:
        made.start()
        yield made


@pytest.mark.parametrize(("how", "number"), [("killed", signal.SIGQUIT), ("restarted", signal.SIGINT)])
def test_a_database_server_that_ends_takes_no_answered_create_with_it(
    server: postgres.Server, scale: Scale, report: Report, how: str, number: signal.Signals
) -> None:
    rounds = scale.rounds(20) if scale.full else 2
    with on(server) as installation:
        with creating(installation) as creators:
            for _ in range(rounds):
                server.stop(number)
                server.start()
                creators.answered()
        creators.verify()
        check(installation)
    report(
        11,
        case=how,
        rounds=rounds,
        creates=len(creators.made),
        refused=sum(creators.refused.values()),
        lost=0,
        double=0,
    )


def test_a_commit_whose_answer_is_lost_is_said_to_be_unknown_and_done_once_when_asked_again(
    server: postgres.Server, scale: Scale, report: Report
) -> None:
    rounds = scale.rounds(20) if scale.full else 4
    with on(server) as installation, ForgetfulProxy(server.folder) as proxy:
        for service in installation.services:
            service.kill()
        url = f"postgresql+psycopg://moorage@/postgres?host={proxy.folder}"
        installation.start(MOORAGE_SERVICE_DATABASE_URL=url)
        with creating(installation, people=1) as creators:
            for number in range(rounds):
                proxy.forget_next_commit(f"run:{creators.job}")
                eventually(partial(proxy.has_forgotten, number + 1), what="a commit without an answer")
                creators.answered()
        creators.verify()
        check(installation)
    assert creators.refused.get("outcome_unknown")
    report(11, case="answer to COMMIT lost", rounds=rounds, creates=len(creators.made), unknown=creators.refused["outcome_unknown"],
           lost=0, double=0)  # fmt: skip


@contextmanager
def locked(installation: Installation, url: str | None) -> Iterator[None]:
    """By another process's transaction, as an admin's tool or a backup might."""
    if url is None:
        other = sqlite3.connect(installation.state / "database" / "service.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        other.close()
    else:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("LOCK TABLE workloads IN ACCESS EXCLUSIVE MODE")
            yield


@each_database
def test_a_locked_database_is_waited_for(
    installation: Installation, database_url: str | None, scale: Scale, report: Report
) -> None:
    installation.start()
    held_s = scale.seconds(30)
    rounds = scale.rounds(20) if scale.full else 1
    with creating(installation) as creators:
        for _ in range(rounds):
            with locked(installation, database_url):
                time.sleep(held_s)  # the fault itself, not a wait for its end
                assert installation.services[-1].answers(), "the service is deaf while the store is locked"
            creators.answered()
    creators.verify()
    check(installation)
    report(11, case="locked", database="sqlite" if database_url is None else "postgresql", rounds=rounds, held_s=held_s,
           creates=len(creators.made), refused=sum(creators.refused.values()), lost=0, double=0)  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk_is_said_and_passes(installation: Installation, scale: Scale, report: Report) -> None:
    rounds = scale.rounds(20) if scale.full else 2
    with small_disk(installation.state / "database") as disk:
        installation.start()
        with creating(installation) as creators:
            for _ in range(rounds):
                refused = creators.refused.get("disk_full", 0)
                fill(disk / "filler")
                eventually(partial(creators.was_refused, "disk_full", refused + 1), what="a refusal in words")
                with installation.api() as http:
                    assert http.get("/runs").status_code == 200, "what can be read is read"
                (disk / "filler").unlink()
                creators.answered()
        creators.verify()
        check(installation)
        installation.clear()
    report(
        11,
        case="disk full",
        rounds=rounds,
        creates=len(creators.made),
        refused=creators.refused["disk_full"],
        lost=0,
        double=0,
    )


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 16 MiB with what the folder holds."""
    aside = folder.with_name("database-aside")
    shutil.copytree(folder, aside)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", folder], check=True)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    for size in (1 << 20, 1 << 12, 1):
        with suppress(OSError):
            while True:
                os.write(descriptor, bytes(size))
    os.close(descriptor)
