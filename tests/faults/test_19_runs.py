"""Fault 19: a run is killed at any point, runner, kernel, shim or all of it; or what it leaves can't be saved.

It reaches its final state within its deadline and says why; what it had done is kept; no success without its output.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from moorage.wire import Phase
from moorage_service.identity.tokens import issue_token
from moorage_service.settings import PREFIX
from moorage_service.store.tables import EventRow, ReservationRow, WorkloadRow
from moorage_spawners.launch import Observation
from moorage_spawners.shim import tree
from tests.faults.checking import check
from tests.faults.crashes import Tally, dies, spread
from tests.faults.figures import Report, Scale
from tests.faults.installation import ENVIRONMENT, Installation
from tests.service.jobs_bench import notebook, promotion
from tests.waiting import eventually

FINAL = ("succeeded", "failed", "cancelled")
DEADLINE_S = 300  # the runs of a test share the machine with whatever else it does
# In the place of the server environment's python: the runner, to the service's eye. What the notebook's first cell says, it does.
RUNNER = """#!{python} -ISs
import json, os, sys, time
order = json.load(open(sys.argv[-1]))
source = json.load(open(os.path.join(order["folder"], order["notebook"])))
wish = json.loads("".join(source["cells"][0]["source"])[2:])
if "until" in wish:
    while not os.path.exists(wish["until"]):
        time.sleep(0.02)
source["cells"].append({{"cell_type": "markdown", "metadata": {{}}, "id": "end", "source": "x" * wish.get("bytes", 10)}})
if wish.get("leaves", True):
    with open(os.path.join(order["output"], "notebook.ipynb"), "w") as file:
        json.dump(source, file)
print("ended")
sys.exit(wish.get("exit", 0))
"""


class Runs:
    """Runs of an installation whose environment is this interpreter's, so that runners and kernels are real."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._jobs = 0
        python = installation.state / "environments" / ENVIRONMENT / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self.set(server_python=sys.executable)

    @classmethod
    def stand_in(cls, installation: Installation) -> "Runs":
        """Their runner is a stand-in, too."""
        made = cls(installation)
        runner = installation.state / "environments" / "runner"
        runner.write_text(RUNNER.format(python="/usr/bin/python3"))
        runner.chmod(0o755)
        made.set(server_python=str(runner))
        return made

    def set(self, **settings: Any) -> None:
        file = self.installation.state / "settings.yaml"
        document = json.loads(file.read_text())
        document["service"].update(settings)
        file.write_text(json.dumps(document))

    def start(self, *cells: str, memory: int = 1 << 30) -> str:
        self._jobs += 1
        with self.installation.api() as http:
            job = http.post(
                "/jobs",
                json=promotion(notebook(*cells), name=f"job {self._jobs}", size={"cpu": 0.5, "memory": memory}),
            )
            assert job.status_code == 201, job.text
            run = http.post(f"/jobs/{job.json()['id']}/runs", json={})
            assert run.status_code == 201, run.text
        return str(run.json()["id"])

    def view(self, run_id: str) -> Any:
        with self.installation.api() as http:
            return http.get(f"/runs/{run_id}").json()

    def until(self, run_id: str, true: Callable[[Any], object], what: str) -> Any:
        seen: list[Any] = []

        def there() -> bool:
            seen[:] = [self.view(run_id)]
            return bool(true(seen[0]))

        try:
            eventually(there, within=DEADLINE_S, what=f"{run_id} {what}")
        except AssertionError as error:
            log = self.installation.processes.log_path(run_id, "runner")
            error.add_note(f"{seen} {log.read_text()[-2000:] if log.exists() else ''}")
            raise
        return seen[0]

    def end(self, run_id: str) -> Any:
        return self.until(run_id, lambda run: run["phase"] in FINAL, "ended")

    def notebook(self, run_id: str) -> str:
        with self.installation.api() as http:
            return http.get(f"/runs/{run_id}/outputs/notebook.ipynb").text

    def runner(self, run_id: str) -> Observation:
        return next(seen for seen in self.installation.processes.observe(run_id) if seen.role == "runner")


def does(**wish: Any) -> str:
    return f"# {json.dumps(wish)}"


def kill(runs: Runs, run_id: str, victim: str) -> None:
    seen = runs.runner(run_id)
    assert seen.pid is not None
    record = json.loads((runs.installation.processes.root / run_id / "runner" / "1" / "record.json").read_text())
    below = sorted(tree.descendants(seen.pid))
    targets = {
        "runner": [seen.pid],
        "kernel": [pid for pid in below if b"ipykernel" in Path(f"/proc/{pid}/cmdline").read_bytes()],
        "shim": [record["shim_pid"]],
        "tree": [record["shim_pid"], seen.pid, *below],
    }[victim]
    for pid in targets:
        os.kill(pid, signal.SIGKILL)


VICTIMS = {
    "runner": ("run.runner-died",),
    "kernel": ("run.kernel-died",),
    "shim": ("run.lost", "run.runner-died"),
    "tree": ("run.lost",),
}


def test_a_run_that_is_killed_ends_with_the_reason_and_what_it_had_done(
    installation: Installation, scale: Scale, report: Report
) -> None:
    runs = Runs(installation)
    installation.start()
    chance = random.Random(19)
    kept = killed = 0
    rounds = 48 if scale.full else len(VICTIMS)
    for start in range(0, rounds, len(VICTIMS)):
        started = {
            runs.start("print('first')", "import time\nprint('second')\ntime.sleep(600)"): victim for victim in VICTIMS
        }
        assert start < rounds
        for run_id, victim in started.items():
            runs.until(
                run_id,
                lambda run: len(run["cells"]) > 1 and run["cells"][1]["state"] == "running",
                "in its second cell",
            )
            eventually(lambda: "first" in runs.notebook(run_id), what="the first cell's output")  # noqa: B023
            eventually(lambda: chance.random() < 0.3, what="a moment nobody chose")
            kill(runs, run_id, victim)
            killed += 1
        for run_id, victim in started.items():
            ended = runs.end(run_id)
            assert (ended["phase"], ended["reason_code"] in VICTIMS[victim]) == ("failed", True), (victim, ended)
            assert ended["reason"]
            assert "first" in runs.notebook(run_id), victim
            kept += 1
    check(installation)
    report(19, killed=killed, final_in_time=killed, partial_notebooks_kept=kept, successes_without_output=0)


def test_a_run_ends_once_wherever_the_service_was_killed(runs: Runs, scale: Scale, report: Report) -> None:
    installation, tally = runs.installation, Tally()
    points = (
        "run.recorded",
        "run.committed",
        "run.admitted",
        "run.claimed",
        "run.prepared",
        "run.started",
        "run.concluding",
        "run.concluded",
    )
    rounds = 48 if scale.full else len(points)
    for number, point in enumerate(spread(points, rounds)):
        doomed = installation.start(crash_at=point)
        tally.rounds += 1
        run_id = None
        try:
            run_id = runs.start(does(bytes=1000))
        except Exception:  # noqa: BLE001 - it was killed while it answered
            tally.unanswered += 1
        dies(doomed.status, point, tally)
        doomed.kill()
        installation.start()
        if run_id is None:
            with installation.api() as http:
                made = [run["id"] for run in http.get("/runs").json() if run["phase"] not in FINAL]
            run_id = made[0] if made else runs.start(does(bytes=1000))
        ended = runs.end(run_id)
        assert (ended["phase"], ended["outputs"]) == ("succeeded", ["notebook.ipynb", "run.log"]), (
            f"{number} {point}: {ended}"
        )
        installation.services[-1].kill()
    installation.start()
    check(installation)
    assert not tally.missed
    report(19, rounds=rounds, points=len(points), kills=tally.kills, ended_once=rounds)


@pytest.fixture(scope="module")
def one() -> Iterator[Runs]:
    """For the tests whose runner is a stand-in: one installation, as making one costs seconds. Each starts its services anew."""
    with Installation.make() as made:
        yield Runs.stand_in(made)


@pytest.fixture
def runs(one: Runs) -> Iterator[Runs]:
    yield one
    for service in one.installation.services:
        service.kill()


@pytest.fixture
def small(one: Runs) -> Iterator[Callable[[str, str], Path]]:
    """Puts a disk of its own in the place of a folder of the state: its name, and the options of `mount`."""
    mounted = []

    def mount(name: str, options: str) -> Path:
        folder = one.installation.state / name
        if folder in mounted:
            subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
            return folder
        asked = ["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(asked, capture_output=True).returncode != 0:
            pytest.skip("only root can mount a small disk")
        mounted.append(folder)
        return folder

    yield mount
    for service in one.installation.services:
        service.kill()
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_outputs_that_can_not_be_saved_hold_nothing_and_wait_for_an_admin(
    runs: Runs, small: Callable[[str, str], Path], scale: Scale, report: Report, trouble: str
) -> None:
    installation = runs.installation
    runs.set(run_disk_wait_s=scale.seconds(60))
    small("outputs", "size=64k" if trouble == "full" else "size=10m")
    go = installation.state / "homes" / f"go-{trouble}"
    installation.start()
    run_id = runs.start(does(bytes=500_000, until=str(go)))
    runs.until(run_id, lambda run: run["phase"] == "running", "running")
    if trouble == "read-only":
        small("outputs", "ro")
    go.touch()
    waits = runs.until(
        run_id, lambda run: run["phase"] == "stopping" and run["reason_code"] == "run.saving", "waiting for room"
    )
    assert "its outputs can't be saved" in waits["reason"]
    with installation.context() as context, context.database.read() as session:
        assert session.get_one(ReservationRow, run_id).released_at is not None, (
            "its process is gone, so it holds nothing"
        )
    ended = runs.end(run_id)
    assert (ended["phase"], ended["reason_code"]) == ("failed", "run.output-lost")
    assert {"full": "No space left", "read-only": "Read-only file system"}[trouble] in ended["reason"]
    check(installation, allowed=frozenset({"lost.outputs"}))
    assert (installation.state / "scratch" / run_id / "outputs" / "notebook.ipynb").exists()

    small("outputs", "rw,size=10m")
    installation.services[-1].stop()
    installation.start()
    eventually(lambda: len(runs.notebook(run_id)) > 500_000, what="the notebook, saved after all")
    with installation.context() as context, context.database.read() as session:
        assert "run.saved" in session.scalars(select(EventRow.code).where(EventRow.workload_id == run_id)).all()
    check(installation)
    report(19, store=trouble, successes_without_output=0, held_while_waiting=0, saved_after_all=1)


def test_a_start_that_the_disk_does_not_take_is_given_up_in_words(
    runs: Runs, small: Callable[[str, str], Path], scale: Scale, report: Report
) -> None:
    installation = runs.installation
    runs.set(run_disk_wait_s=scale.seconds(60))
    small("scratch", "size=4k")
    (installation.state / "scratch" / "fills-it").write_bytes(b"x" * 4096)
    installation.start()
    run_id = runs.start(does())
    waits = runs.until(
        run_id, lambda run: run["reason_code"] == "run.start-delayed" or run["phase"] in FINAL, "waiting"
    )
    assert "can't be started yet: No space left" in waits["reason"]
    ended = runs.end(run_id)
    assert (ended["phase"], ended["reason_code"]) == ("failed", "run.not-started")
    assert "No space left" in ended["reason"]
    small("scratch", "size=10m")
    assert runs.end(runs.start(does()))["phase"] == "succeeded"
    (installation.state / "scratch" / "fills-it").unlink()
    check(installation)
    report(19, store="no room to start", given_up_in_words=1)


def test_an_upload_that_is_cut_off_leaves_the_earlier_output(runs: Runs, report: Report) -> None:
    installation = runs.installation
    go = installation.state / "homes" / "go-cut"
    service = installation.start()
    run_id = runs.start(does(until=str(go)))
    runs.until(run_id, lambda run: run["phase"] == "running", "running")
    with installation.context() as context, context.database.begin() as session:
        token = issue_token(session, session.get_one(WorkloadRow, run_id))
    path = f"{PREFIX}/api/v1/runs/{run_id}/outputs/notebook.ipynb"
    head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as sent:
        sent.sendall(f"{head}Content-Length: 5\r\n\r\nwhole".encode())
        assert b" 204 " in sent.recv(1000)
    outputs = installation.state / "outputs" / run_id
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as cut:
        cut.sendall(f"{head}Content-Length: 100000\r\n\r\n{'x' * 50000}".encode())
        eventually(lambda: any(path.name.startswith(".") for path in outputs.iterdir()), what="the half that arrived")
    eventually(lambda: [path.name for path in outputs.iterdir()] == ["notebook.ipynb"], what="no half of it")
    assert (outputs / "notebook.ipynb").read_text() == "whole"
    go.touch()
    assert runs.end(run_id)["phase"] == "succeeded"
    check(installation)
    report(19, uploads_cut_off=1, halves_kept=0)


def test_a_promotion_that_the_disk_does_not_take_is_refused_in_words(
    runs: Runs, small: Callable[[str, str], Path], report: Report
) -> None:
    installation = runs.installation
    installation.start()
    request = promotion(notebook("print(1)"), name="too much", helper=f"# {'x' * 300_000}")
    refused = []
    for options in ("size=64k", "ro"):
        small("snapshots", options)
        with installation.api() as http:
            answer = http.post("/jobs", json=request)
            refused.append((answer.status_code, answer.json()["code"]))
            assert all(job["name"] != "too much" for job in http.get("/jobs").json())
    assert refused == [(503, "disk_full")] * 2
    small("snapshots", "rw,size=10m")
    with installation.api() as http:
        assert http.post("/jobs", json=request).status_code == 201
    check(installation)
    report(19, promotions_refused_in_words=2, half_made=0)


def test_a_run_without_its_notebook_is_no_success(runs: Runs, report: Report) -> None:
    installation = runs.installation
    installation.start()
    ended = runs.end(runs.start(does(leaves=False)))
    assert (ended["phase"], ended["reason_code"]) == ("failed", "run.output-lost")
    assert "its notebook is not there" in ended["reason"]
    check(installation)
    report(19, left_nothing=1, successes_without_output=0)


def test_a_run_that_ended_while_the_service_was_down_ends_when_its_process_did(runs: Runs, report: Report) -> None:
    installation = runs.installation
    go = installation.state / "homes" / "go"
    installation.start()
    run_id = runs.start(does(until=str(go)))
    runs.until(run_id, lambda run: run["phase"] == "running", "running")
    installation.services[-1].kill()
    go.touch()
    eventually(lambda: runs.runner(run_id).gone, what="the end of its process")
    # It began, and ended, an hour before the service is back.
    for file in (installation.processes.root / run_id).rglob("record.json"):
        record = json.loads(file.read_text())
        record["started_at"] = record["ended_at"] = "2026-11-20T06:00:00Z"
        file.write_text(json.dumps(record))
    with installation.context() as context, context.database.begin() as session:
        workload = session.get_one(WorkloadRow, run_id)
        before = context.clock().replace(year=2026, month=11, day=20, hour=5, minute=59, second=0, microsecond=0)
        workload.created_at = workload.started_at = workload.ready_at = before
        session.get_one(ReservationRow, run_id).created_at = before
    installation.start()
    ended = runs.end(run_id)
    assert (ended["phase"], ended["ended_at"]) == (Phase.SUCCEEDED.value, "2026-11-20T06:00:00.000Z")
    check(installation)
    report(19, ended_while_down=1)
