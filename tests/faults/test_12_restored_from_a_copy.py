"""Fault 12: the database is put back from an older copy, or lost altogether, under workloads that run.

What is newer is adopted or ended, by policy; what has ended since is not begun again; nothing runs uncharged or unseen, and no process dies
that was not to.
"""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from moorage_service.admin.opening import settings_of
from moorage_service.recovery import backup, restore
from moorage_service.store.tables import AuditRow, ReservationRow
from tests.faults.checking import check, check_at
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.faults.whole import Whole
from tests.waiting import eventually

PARTS = backup.parts_of(outputs=True, homes=False, environments=False)


def pids(installation: Installation) -> dict[tuple[str, str], int | None]:
    return {(seen.workload_id, seen.role): seen.pid for seen in installation.running()}


def start_cluster(installation: Installation, user: str) -> str:
    with installation.api(user) as http:
        answer = http.post("/clusters", json=installation.cluster_request())
        assert answer.status_code == 201, answer.text
    made = str(answer.json()["id"])
    installation.wait(made, "ready", user=user)
    return made


def stop(installation: Installation, workload_id: str) -> None:
    with installation.api() as http:
        assert http.delete(f"/workloads/{workload_id}").status_code == 202
    installation.wait(workload_id, "stopped")


def held(installation: Installation) -> set[str]:
    """The workloads that hold something in the ledger."""
    with installation.context() as context, context.database.read() as session:
        return set(session.scalars(select(ReservationRow.workload_id).where(ReservationRow.released_at.is_(None))))


@pytest.mark.parametrize("wanted", ["adopt", "end"])
def test_a_database_that_is_older_than_what_runs_catches_up(
    installation: Installation, scale: Scale, report: Report, tmp_path: Path, wanted: str
) -> None:
    rounds = scale.rounds(5) if scale.full else 1
    adopted = 0
    for number in range(rounds):
        service = installation.start()
        old, gone = start_cluster(installation, "ada"), start_cluster(installation, "ada")
        copy = tmp_path / f"{number}.tar"
        backup.make(settings_of(installation.state), copy, PARTS)  # while it runs
        stop(installation, gone)
        notebook, new = installation.start_notebook("bob"), start_cluster(installation, "bob")
        service.kill()
        before = pids(installation)
        restore.put_back(installation.state, copy)
        service = installation.start(MOORAGE_SERVICE_UNKNOWN_WORKLOADS=wanted)
        assert installation.workload(gone)["reason_code"] == "cluster.lost"
        if wanted == "adopt":
            adopted += 2
            installation.wait(new, "ready", user="bob")
            installation.wait(notebook, "ready", user="bob")
            installation.wait(old, "ready")
            assert pids(installation) == before, "a process died of the restore"
            assert held(installation) == {old, new, notebook}
        else:
            eventually(lambda new=new, notebook=notebook: not {new, notebook} & {seen.workload_id for seen in installation.running()},  # type: ignore[misc]
                       what="the end of what is not known")  # fmt: skip
            installation.wait(old, "ready")
            assert held(installation) == {old}
        check(installation)
        empty(installation)
        service.kill()
    report(12, policy=wanted, rounds=rounds, adopted=adopted, uncharged=0, unseen=0, died=0)


def empty(installation: Installation) -> None:
    """Everybody's workloads end, in good order."""
    for user in ("ada", "bob"):
        with installation.api(user) as http:
            for each in http.get("/workloads").json():
                http.delete(f"/workloads/{each['id']}")
    eventually(lambda: not installation.running(), what="the end of all")
    eventually(lambda: not held(installation), what="all given back")


def test_a_lost_database_is_made_again_from_what_runs(installation: Installation, scale: Scale, report: Report) -> None:
    rounds = scale.rounds(5) if scale.full else 1
    known = 0
    for _ in range(rounds):
        service = installation.start()
        notebook, cluster = installation.start_notebook(), start_cluster(installation, "ada")
        service.kill()
        before = pids(installation)
        for path in (installation.state / "database").glob("service.sqlite*"):
            path.unlink()
        service = installation.start()
        installation.wait(notebook, "ready")
        found: dict[str, Any] = installation.wait(cluster, "ready")
        assert (found["owner"], found["project"]) == ("ada", "starter")
        assert pids(installation) == before, "a process died of the loss"
        assert held(installation) == {notebook, cluster}
        with installation.context() as context, context.database.read() as session:
            known += len(session.scalars(select(AuditRow).where(AuditRow.action == "workload.adopted")).all())
        check(installation)
        empty(installation)
        service.kill()
    report(12, case="database lost", rounds=rounds, adopted=known, uncharged=0, unseen=0, died=0)


def test_both_databases_are_lost_and_a_server_keeps_what_it_holds(
    proxy_script: Path, server_python: Path, report: Report
) -> None:
    """The hub's as well: who signs in anew and presses Start finds the server as it was, with its memory."""
    with Whole.make(proxy_script, server_python, light=["ada"]) as whole:
        person = whole.person("ada")
        person.ask()
        person.until("ready")
        assert [person.counter(), person.counter()] == [1, 2]
        (before,) = whole.running("ada")
        person.close()
        whole.lose_databases()
        person = whole.person("ada")
        assert person.until("ready")["id"] == before.workload_id
        person.ask()
        assert eventually(person.counter, within=60) == 3
        assert [seen.pid for seen in whole.running("ada")] == [before.pid]
        person.stop()
        assert whole.running("ada") == []
        check_at(whole.state)
        person.close()
    report(12, case="both databases lost", died=0)
