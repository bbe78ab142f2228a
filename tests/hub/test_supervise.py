"""Standing over hub and service: restarts, ends, and one per state folder."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moorage_hub import children
from moorage_hub.build_news import BuildNews
from moorage_hub.children import Census, Child
from moorage_hub.errors import AlreadyRunning, ChildFailed
from moorage_hub.settings import load
from moorage_hub.supervise import Supervisor, end_everything, service_child, what_goes_on
from moorage_spawners.launch import Identity, LocalProcesses, ProcessSpec
from moorage_spawners.launch.marks import mark_of
from moorage_spawners.shim import tree
from tests.small_disk import small_disk
from tests.waiting import eventually


def child(tmp_path: Path, script: str) -> Child:
    return Child(
        name="hub", argv=("/bin/sh", "-c", script), env={"PATH": os.defpath}, log=tmp_path / "log", cwd=tmp_path
    )


def test_a_child_that_dies_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE_S", 0.01)
    found = child(tmp_path, "exec sleep 1000")  # killed alone: a shell would leave it behind
    found.check()
    assert found.process is not None
    first = found.process.pid
    found.process.kill()
    found.process.wait()

    def back() -> int | None:
        found.check()
        return found.process.pid if found.process is not None else None

    assert eventually(back) != first
    found.stop()


def test_a_child_that_cannot_stay_up_is_given_up_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE_S", 0.001)
    found = child(tmp_path, "echo the port is taken; exit 3")

    def given_up() -> ChildFailed | None:
        try:
            found.check()
        except ChildFailed as error:
            return error
        return None

    error = eventually(given_up)
    assert "The hub ended 6 times, last with status 3" in str(error)
    assert "the port is taken" in str(error)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_child_that_will_not_end_is_ended(tmp_path: Path) -> None:
    found = child(tmp_path, f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done")
    found.stop_s = 0.2
    found.start()
    eventually((tmp_path / "up").exists)
    found.stop()
    assert found.process is not None
    assert found.process.returncode == -9
    found.stop()


def test_a_second_start_on_the_same_state_says_so(state: Path) -> None:
    settings = load(state)
    with Supervisor(settings, {}, print), pytest.raises(AlreadyRunning, match="Moorage runs already on"):
        Supervisor(settings, {}, print).__enter__()


@contextmanager
def watching(supervisor: Supervisor) -> Iterator[list[BaseException]]:
    """Its watch in a thread, as over programs that answer; what ended it."""
    ended: list[BaseException] = []

    def watch() -> None:
        try:
            supervisor.watch()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            ended.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield ended
    finally:
        supervisor._stopping = True
        thread.join()


def stand_ins(state: Path, say: list[str]) -> Supervisor:
    """Over programs that do nothing."""
    found = Supervisor(load(state), {}, say.append)
    found._pulses = []
    for each in found.children:
        each.argv, each.cwd = ("/bin/sleep", "1000"), state
    return found


def test_a_full_disk_ends_nobody_and_is_said_once(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    with (
        small_disk(state / "database", "64k") as disk,
        stand_ins(state, said) as supervisor,
        watching(supervisor) as ended,
    ):
        eventually(lambda: len(supervisor.census.living()) == 4, what="the start of all")
        before = dict(supervisor.census.living())
        disk.fill()
        supervisor.hub.log.unlink()
        supervisor.hub.log.mkdir()  # what can't be opened to write, as on a full disk what is not there yet
        os.kill(before["hub"], signal.SIGKILL)
        eventually(lambda: len(said) == 2, what="the words about both")
        supervisor.hub.log.rmdir()
        eventually(lambda: supervisor.hub.process is not None, what="its next start")
        assert not list(disk.folder.glob(".processes.json*"))
        disk.empty()
        eventually(lambda: len(supervisor.census.living()) == 4, what="the list of all")
        after = supervisor.census.living()
    assert ended == []
    assert [after[name] == before[name] for name in ("service", "proxy", "hub")] == [True, True, False]
    assert sorted(line.partition(":")[0] for line in said) == [
        "The hub can't be started again",
        "The list of the processes can't be written",
    ]


def test_a_log_that_can_not_be_put_aside_ends_nobody(state: Path) -> None:
    said: list[str] = []
    with small_disk(state / "logs", "128k") as disk:
        with stand_ins(state, said) as supervisor:
            supervisor.settings = supervisor.settings.model_copy(update={"log_bytes": 50_000})
            supervisor.hub.log.write_bytes(b"x" * 60_000)
            disk.fill()
            with watching(supervisor) as ended:
                eventually(lambda: supervisor.hub.log.stat().st_size < 1000, what="a short log")
                eventually(lambda: len(supervisor.census.living()) == 4, what="the start of all")
        assert ended == []
        assert not list(disk.folder.glob("hub.log.*"))
    assert said == []


def test_a_start_ends_what_a_killed_one_left(state: Path) -> None:
    left = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    Census(state).write({"hub": left.pid})
    said: list[str] = []
    with Supervisor(load(state), {}, said.append):
        assert left.wait(30) == -15
    assert said == ["Ended the hub that an earlier start had left behind"]


def test_a_start_ends_what_was_started_and_not_written_down(state: Path) -> None:
    """As when the supervisor was killed right after it had started something."""
    script = "import subprocess, sys; sys.exit(subprocess.run(['sleep', '1000']).returncode)"
    env = {"PATH": os.defpath, tree.COOKIE: mark_of(state)}
    left = [
        subprocess.Popen(argv, env=env, start_new_session=True)
        for argv in (["sleep", "1000"], [sys.executable, "-c", script])
    ]
    other = subprocess.Popen(["sleep", "1000"], env={"PATH": os.defpath, tree.COOKIE: mark_of(state / "other")})
    eventually(lambda: len(tree.marked(mark_of(state), None)) == 3)
    said: list[str] = []
    with Supervisor(load(state), {}, said.append):
        assert tree.marked(mark_of(state), None) == set()
        assert other.poll() is None  # of another installation
    assert said == ["Ended 3 processes that an earlier start had left behind"]
    other.kill()
    for each in (*left, other):
        each.wait()


def test_a_list_of_processes_that_a_full_disk_cut_short_names_nobody(state: Path) -> None:
    (state / "database" / "processes.json").write_text('{"hub": [12')
    assert Census(state).living() == {}


def test_nobody_of_before_a_restart_of_the_machine_is_ours(state: Path) -> None:
    census = Census(state)
    census.write({"hub": os.getpid()})
    assert census.living() == {"hub": os.getpid()}
    path = state / "database" / "processes.json"
    path.write_text(path.read_text().replace(tree.boot(), "another boot/1"))
    assert census.living() == {}


def test_a_reused_pid_is_nobody_of_ours(state: Path) -> None:
    census = Census(state)
    census.write({"hub": os.getpid()})
    path = state / "database" / "processes.json"
    started = tree.started(os.getpid())
    assert started is not None
    path.write_text(path.read_text().replace(started, str(int(started) - 1)))
    assert census.living() == {}
    assert census.end() == []


def test_down_ends_workloads_and_what_goes_on_names_them(state: Path) -> None:
    processes = LocalProcesses(state / "workloads")
    assert what_goes_on(state) == "Nothing else runs."
    for number, kind in enumerate(("notebook", "cluster", "cluster")):
        processes.start(
            ProcessSpec(
                workload_id=f"wl-{number}", generation=1, role="main", argv=("/bin/sleep", "1000"), env={}, cwd="/tmp",
                identity=Identity(None, None, "/tmp"), size=None, labels={"kind": kind},
            )
        )  # fmt: skip
    assert what_goes_on(state).startswith("Still running: 2 clusters, 1 notebook.")
    said: list[str] = []
    end_everything(load(state), said.append)
    assert said == ["Hub, proxy and service were not running", "Stopped 3 workloads"]
    end_everything(load(state), said.append)
    assert said[-1] == "No workload was running"


def test_the_service_is_told_where_it_is(state: Path) -> None:
    settings = load(state)
    (state / "installation.json").write_text('{"UV": "/tools/uv", "CLIENT_WHEEL": "/wheels/moorage.whl"}')
    found = service_child(settings, {"MOORAGE_SERVICE_UV": "/mine/uv"})
    assert found.argv == (sys.executable, "-I", "-m", "moorage_service.main")
    assert found.env["MOORAGE_SERVICE_STATE"] == str(state)
    assert found.env["MOORAGE_SERVICE_PORT"] == str(settings.service_port)
    assert found.env["MOORAGE_SERVICE_CLIENT_WHEEL"] == "/wheels/moorage.whl"
    assert found.env["MOORAGE_SERVICE_UV"] == "/mine/uv"  # what the admin says wins


def test_the_first_build_is_told_by_its_milestones(state: Path) -> None:
    news = BuildNews(state)
    (state / "logs" / "builds").mkdir()
    log = state / "logs" / "builds" / "bu-1.log"
    log.write_text("Resolving 16 requirements.\n  Resolved 134 packages\n")
    assert news.lines() == ["Resolving 16 requirements."]
    log.write_text(log.read_text() + "Environment abc is ready.\n")
    assert news.lines() == ["Environment abc is ready."]
    assert news.lines() == []
    (state / "environments" / "abc").mkdir()
    (state / "environments" / "abc" / "moorage-environment.json").touch()
    assert BuildNews(state).lines() == []
    log.write_text(log.read_text() + "Its last line.\n")
    assert news.lines() == ["Its last line."]
    assert news.lines() == []
    log.write_text(log.read_text() + "Of another build.\n")
    assert news.lines() == []
