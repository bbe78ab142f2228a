"""A notebook from its admission until it is observed gone: what the spawner says is a hint, what the shim's record says decides."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import Size
from moorage_service.context import Context
from moorage_service.notebooks import reconcile
from moorage_service.reconciler.orphans import Orphans
from moorage_service.store.tables import EventRow, ProjectRow, ReservationRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Identity, ProcessSpec
from moorage_spawners.shim import tree
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.nesting import nesting
from tests.service.databases import each_database
from tests.waiting import eventually

Headers = dict[str, str]
GIB = 1 << 30
BODY = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": GIB}}


@dataclass
class Desk:
    """The spawner's and the owner's side of one notebook, with real processes."""

    context: Context
    client: TestClient
    spawner: Headers
    ada: Headers

    def admit(self, **change: Any) -> Any:
        return self.client.post("/api/v1/notebooks", headers=self.spawner, json={**BODY, **change})

    def admitted(self) -> str:
        answer = self.admit()
        assert answer.status_code == 201, answer.text
        return str(answer.json()["workload_id"])

    def says(self, workload: str, state: str, **given: str) -> Any:
        path = f"/api/v1/notebooks/{workload}/observations"
        return self.client.post(path, headers=self.spawner, json={"state": state, **given})

    def start(self, workload: str, code: str = "import time; time.sleep(600)", size: Size | None = None) -> None:
        self.context.machine.start(
            ProcessSpec(
                workload_id=workload, generation=1, role="server", argv=(sys.executable, "-c", code), env={"PATH": os.defpath},
                cwd="/", identity=Identity(None, None, "/"), size=size,
            )
        )  # fmt: skip

    def step(self, workload: str) -> None:
        reconcile.step(self.context, workload)

    def shown(self, workload: str) -> Any:
        return self.client.get(f"/api/v1/notebooks/{workload}", headers=self.ada).json()

    def until(self, workload: str, phase: str) -> Any:
        def reached() -> Any:
            self.step(workload)
            found = self.shown(workload)
            return found if found["phase"] == phase else None

        return eventually(reached, what=f"phase {phase}")

    def released(self, workload: str) -> bool:
        with self.context.database.read() as session:
            return session.get_one(ReservationRow, workload).released_at is not None


@pytest.fixture
def desk(context: Context, client: TestClient, spawner: Headers, ada: Headers, project: ProjectRow) -> Iterator[Desk]:
    yield Desk(context, client, spawner, ada)
    for seen in context.processes.observe_all():
        context.processes.stop(seen.workload_id, grace_s=0)
    eventually(lambda: all(seen.gone for seen in context.processes.observe_all()), what="all processes gone")


@each_database
def test_a_notebook_is_admitted_started_ready_stopped_and_only_then_gives_back(desk: Desk, hub: FakeHub) -> None:
    hub.servers["ada", "starter"] = {}
    workload = desk.admitted()
    assert desk.shown(workload)["phase"] == "pending"
    desk.start(workload)
    desk.says(workload, "starting", message="Starting the notebook server.")
    desk.step(workload)
    assert desk.says(workload, "ready", url="/user/ada/starter/").status_code == 204
    found = desk.shown(workload)
    assert (found["phase"], found["url"]) == ("ready", "/user/ada/starter/")
    assert found["holds"] == {"cpu": 1, "memory": GIB, "notebooks": 1}
    assert desk.client.delete(f"/api/v1/notebooks/{workload}", headers=desk.ada).json()["phase"] == "stopping"
    assert not desk.released(workload)
    found = desk.until(workload, "stopped")
    assert desk.released(workload)
    assert (found["holds"], found["url"], found["reason"]) == ({}, None, "Stopped by its owner.")
    assert ("ada", "starter") not in hub.servers  # the hub's page agrees
    codes = [event["code"] for event in found["events"]]
    assert codes == [
        "notebook.admitted", "notebook.starting", "notebook.ready", "notebook.stopping", "notebook.stopped",
    ]  # fmt: skip


def test_what_never_started_gives_back_after_its_lease_and_not_before(desk: Desk, clock: FakeClock) -> None:
    workload = desk.admitted()
    desk.says(workload, "starting")  # a hint binds nothing
    desk.step(workload)
    assert not desk.released(workload)
    clock.advance(desk.context.settings.admission_lease_s + 1)
    desk.step(workload)
    assert desk.released(workload)
    assert desk.shown(workload)["reason_code"] == "notebook.never_started"


def test_a_process_that_starts_after_its_lease_lapsed_is_ended(desk: Desk, clock: FakeClock) -> None:
    workload = desk.admitted()
    clock.advance(desk.context.settings.admission_lease_s + 1)
    desk.step(workload)
    desk.start(workload)
    Orphans(desk.context).run_once()
    eventually(lambda: all(seen.gone for seen in desk.context.processes.observe(workload)), what="the orphan gone")
    assert desk.shown(workload)["events"][-1]["code"] == "workload.orphan"


def test_processes_that_the_store_does_not_know_are_left_alone(desk: Desk) -> None:
    desk.start("nb-unknown")
    Orphans(desk.context).run_once()
    assert [seen.state for seen in desk.context.processes.observe("nb-unknown")] == ["running"]


def test_the_spawners_word_that_it_is_gone_releases_nothing_while_it_runs(desk: Desk) -> None:
    workload = desk.admitted()
    desk.start(workload)
    desk.step(workload)
    desk.says(workload, "gone")
    assert not desk.released(workload)
    assert not all(seen.gone for seen in desk.context.processes.observe(workload))
    desk.until(workload, "stopped")
    assert desk.released(workload)


def test_what_the_hub_has_told_us_is_not_told_to_the_hub(desk: Desk, hub: FakeHub) -> None:
    """It may have started the next server meanwhile, which that would stop."""
    workload = desk.admitted()
    desk.start(workload)
    desk.says(workload, "gone")
    hub.servers["ada", "starter"] = {}
    desk.until(workload, "stopped")
    assert ("ada", "starter") in hub.servers


def test_a_hub_that_is_down_keeps_nothing_from_ending(desk: Desk, hub: FakeHub) -> None:
    workload = desk.admitted()
    desk.start(workload)
    desk.step(workload)
    hub.failing = True
    with desk.context.database.begin() as session:
        row = session.get_one(WorkloadRow, workload)
        lifecycle.ask_to_end(session, row, now=desk.context.clock(), reason="Stopped by the admin root.")

    def released() -> bool:
        desk.step(workload)
        return desk.released(workload)

    eventually(released, what="the notebook released")


def test_a_crash_says_how_it_ended_and_keeps_the_end_of_its_log(desk: Desk) -> None:
    workload = desk.admitted()
    desk.start(workload, "print('no such kernel', flush=True); raise SystemExit(3)")
    found = desk.until(workload, "failed")
    assert found["reason_code"] == "notebook.crashed"
    assert "exit status 3" in found["reason"]
    assert "no such kernel" in found["events"][-1]["message"]


def test_folders_without_end_in_its_servers_folder_keep_nothing_that_it_held(desk: Desk) -> None:
    workload = desk.admitted()
    scratch = desk.context.settings.state / "scratch" / workload
    scratch.mkdir(parents=True)
    with nesting() as nest:
        nest(scratch)
        desk.start(workload, "raise SystemExit(3)")
        desk.until(workload, "failed")
        assert desk.released(workload)
        assert not scratch.exists()


def test_a_failed_start_says_what_the_spawner_saw(desk: Desk) -> None:
    workload = desk.admitted()
    desk.start(workload, "raise SystemExit(1)")
    desk.says(workload, "failed", message="The notebook server did not answer in 60 s.")
    found = desk.until(workload, "failed")
    assert found["reason"] == "The notebook server did not answer in 60 s."


GREEDY = """
import os, subprocess, sys, time
for _ in range(2):
    subprocess.run([sys.executable, "-c", "b = bytearray(400 << 20)"])
    print("one is gone", flush=True)
    time.sleep(2)
time.sleep(600)
"""


def test_a_kernel_that_the_memory_limit_killed_is_told_and_nothing_else_suffers(desk: Desk, bob: Headers) -> None:
    advisory = desk.context.machine.limits_enforced()
    if advisory is not None:
        pytest.skip(advisory)
    other = str(desk.admit(user="bob").json()["workload_id"])
    desk.start(other)
    workload = desk.admitted()
    desk.start(workload, GREEDY, Size(cpu=1, memory=100 << 20))
    for each in (other, workload):
        desk.step(each)
        desk.says(each, "ready")

    def told(times: int) -> Any:
        desk.step(workload)
        found = desk.shown(workload)
        return [each["code"] for each in found["events"]].count("notebook.out_of_memory") == times and found

    found = eventually(lambda: told(1))
    assert found["phase"] == "ready"
    assert found["reason"].startswith(
        "It used more than its 1 GiB memory, so the system ended one of its kernels or programs"
    )
    desk.says(workload, "ready")  # the hub says so again after its restart
    assert desk.shown(workload)["reason"] == found["reason"]
    assert "2 times so far" in eventually(lambda: told(2))["reason"]
    (seen,) = desk.context.processes.observe(other)
    assert (seen.state, seen.out_of_memory) == ("running", 0)
    desk.client.delete(f"/api/v1/notebooks/{workload}", headers=desk.ada)
    assert desk.until(workload, "stopped")["reason"] == "Stopped by its owner."  # not: of its memory, long ago


def test_a_start_of_what_runs_takes_it_over(desk: Desk) -> None:
    """The hub had forgotten it: what kernels hold is worth more than a new size."""
    first = desk.admitted()
    desk.start(first)
    desk.step(first)
    answer = desk.admit(size={"cpu": 2, "memory": GIB})
    assert answer.status_code == 201
    found = answer.json()
    assert (found["workload_id"], found["runs"], found["token"], found["environment_variables"]) == (
        first,
        True,
        "",
        {},
    )
    desk.step(first)
    shown = desk.shown(first)
    assert (shown["phase"], shown["holds"]["cpu"]) == ("starting", 1)
    assert shown["events"][-1]["code"] == "notebook.taken_over"


def test_what_is_to_end_is_not_taken_over(desk: Desk) -> None:
    first = desk.admitted()
    desk.start(first)
    desk.step(first)
    desk.client.delete(f"/api/v1/notebooks/{first}", headers=desk.ada)
    assert desk.admit().json()["code"] == "notebook_exists"


def test_a_hub_that_was_restarted_gives_up_what_it_never_started(desk: Desk) -> None:
    workload = desk.admitted()
    answer = desk.client.post(
        "/api/v1/notebooks/forgotten", headers=desk.spawner, json={"user": "ada", "project": "starter"}
    )
    assert answer.status_code == 204
    found = desk.until(workload, "failed")
    assert found["reason"] == "The hub was restarted while this notebook was asked for. Start it again."
    assert desk.released(workload)


def test_a_hub_that_was_restarted_gives_up_nothing_that_runs(desk: Desk) -> None:
    workload = desk.admitted()
    desk.start(workload)
    desk.client.post("/api/v1/notebooks/forgotten", headers=desk.spawner, json={"user": "ada", "project": "starter"})
    desk.step(workload)
    assert desk.shown(workload)["phase"] == "starting"


def test_a_restart_of_the_machine_is_told_and_gives_back_what_it_ended(desk: Desk) -> None:
    """All processes are gone at once, and pids, also of what was never ours, begin anew."""
    workload = desk.admitted()
    desk.start(workload)
    desk.says(workload, "ready")
    desk.step(workload)
    folder = desk.context.machine.root / workload / "server" / "1"
    record = json.loads((folder / "record.json").read_text())
    tree.signal_all({record["shim_pid"], record["pid"]}, signal.SIGKILL)
    eventually(lambda: tree.started(record["shim_pid"]) is None and tree.started(record["pid"]) is None)
    record |= {
        "boot": "an earlier boot/1",
        "shim_pid": os.getpid(),
        "pid": os.getpid(),
        "pid_start": tree.started(os.getpid()),
    }
    (folder / "record.json").write_text(json.dumps(record))
    found = desk.until(workload, "stopped")
    assert (found["reason_code"], found["reason"].partition(".")[0]) == (
        "notebook.machine_restarted", "The machine was restarted, which ended it",
    )  # fmt: skip
    assert desk.released(workload)
    assert desk.admit().status_code == 201


def test_a_start_ends_what_is_left_of_the_earlier_one_first(desk: Desk) -> None:
    first = desk.admitted()
    desk.start(first)
    desk.step(first)
    answer = desk.admit(fresh=True)
    assert (answer.status_code, answer.json()["code"]) == (409, "notebook_exists")
    desk.until(first, "stopped")
    assert desk.admitted() != first


def test_nothing_is_written_while_nothing_changes(desk: Desk) -> None:
    workload = desk.admitted()
    desk.start(workload)
    desk.step(workload)
    with desk.context.database.begin():  # holds SQLite's one write lock
        desk.step(workload)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"project": "nothing"}, 404, "not_found"),
        ({"size": {"cpu": 0, "memory": GIB}}, 400, "bad_request"),
        ({"size": {"cpu": 1, "memory": 5}}, 400, "bad_request"),
        ({"size": {"cpu": 9, "memory": GIB}}, 409, "limit_refused"),
        ({"size": {"cpu": 1, "memory": GIB, "gpu": 1, "gpu_type": "h200"}}, 409, "limit_refused"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(desk: Desk, change: dict[str, Any], status: int, code: str) -> None:
    answer = desk.admit(**change)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    with desk.context.database.read() as session:
        assert session.query(WorkloadRow).count() == 0
        assert session.query(ReservationRow).count() == 0
        assert session.query(EventRow).count() == 0


def test_a_project_without_an_environment_says_to_build_it(desk: Desk, project: ProjectRow) -> None:
    with desk.context.database.begin() as session:
        session.get_one(ProjectRow, project.id).environment = None
    answer = desk.admit().json()
    assert answer["code"] == "environment_missing"
    assert "moorage project build starter" in answer["message"]


def test_an_observation_that_is_none_is_refused(desk: Desk) -> None:
    assert desk.says(desk.admitted(), "exploded").json()["field"] == "state"


def test_starting_from_the_portal_asks_the_hub_with_the_users_own_token(desk: Desk, hub: FakeHub) -> None:
    answer = desk.client.post("/api/v1/projects/starter/notebook", headers=desk.ada, json={"cpu": 1, "memory": GIB})
    assert answer.json() == {"url": "/user/ada/starter/"}
    assert hub.servers["ada", "starter"]["project"] == "starter"
    again = desk.client.post("/api/v1/projects/starter/notebook", headers=desk.ada, json={"cpu": 1, "memory": GIB})
    assert again.status_code == 202


def test_a_start_that_admission_would_refuse_is_refused_before_the_hub_is_asked(
    desk: Desk, hub: FakeHub, project: ProjectRow
) -> None:
    path = "/api/v1/projects/starter/notebook"
    answer = desk.client.post(path, headers=desk.ada, json={"cpu": 100, "memory": GIB})
    assert (answer.status_code, answer.json()["code"]) == (409, "limit_refused")
    assert answer.json()["message"].startswith("Refused by the limit that this machine can lend at most 8 cpu at once")
    with desk.context.database.begin() as session:
        session.get_one(ProjectRow, project.id).environment = None
    answer = desk.client.post(path, headers=desk.ada, json={"cpu": 1, "memory": GIB})
    assert (answer.status_code, answer.json()["code"]) == (409, "environment_missing")
    assert not hub.servers
    with desk.context.database.read() as session:
        assert session.scalars(select(WorkloadRow)).all() == []


def test_a_start_while_an_earlier_one_holds_the_room_is_left_to_the_spawner(desk: Desk, hub: FakeHub) -> None:
    assert desk.admit(size={"cpu": 8, "memory": GIB}).status_code == 201
    path = "/api/v1/projects/starter/notebook"
    assert desk.client.post(path, headers=desk.ada, json={"cpu": 8, "memory": GIB}).status_code == 202
    assert ("ada", "starter") in hub.servers
