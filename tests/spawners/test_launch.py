"""Real processes under real shims."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.wire.workloads import Size
from moorage_spawners.launch import Identity, LocalProcesses, Observation, OtherGenerationError, ProcessSpec
from moorage_spawners.shim import tree
from tests.waiting import eventually

OWN = Identity(None, None, "/tmp")
USER = Identity(20017, 20017, "/tmp")
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[LocalProcesses]:
    found = LocalProcesses(tmp_path / "workloads")
    yield found
    for seen in found.observe_all():
        found.stop(seen.workload_id, grace_s=0)
    eventually(lambda: all(seen.gone for seen in found.observe_all()), what="the end of every process")


def spec(script: str, *, generation: int = 1, role: str = "main", **changes: object) -> ProcessSpec:
    values: dict[str, object] = {
        "argv": ("/bin/sh", "-c", script),
        "env": {"PATH": "/usr/bin:/bin", "TOKEN": "hidden"},
        "cwd": "/tmp",
        "identity": OWN,
        "size": None,
    }
    return ProcessSpec("wl", generation, role, **{**values, **changes})  # type: ignore[arg-type]


def only(processes: LocalProcesses, workload: str = "wl") -> Observation:
    (seen,) = processes.observe(workload)
    return seen


def gone(processes: LocalProcesses, workload: str = "wl") -> Observation:
    def look() -> Observation | None:
        seen = only(processes, workload)
        return seen if seen.gone else None

    seen = eventually(look, what="its end")
    assert seen is not None
    return seen


def read_pid(path: Path) -> int:
    eventually(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def test_records_how_a_process_ended(processes: LocalProcesses) -> None:
    started = processes.start(spec("echo out; echo err >&2; exit 3", labels={"owner": "ada"}))
    assert started.started_at
    seen = gone(processes)
    assert (seen.exit_code, seen.signal, seen.labels) == (3, None, {"owner": "ada"})
    log = processes.log_path("wl", "main")
    assert log.read_text() == "out\nerr\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_second_start_finds_the_first(processes: LocalProcesses) -> None:
    first = processes.start(spec("sleep 1000"))
    assert first.state == "running"
    assert processes.start(spec("sleep 1000")).pid == first.pid
    processes.stop("wl")
    ended = gone(processes)
    assert ended.signal == signal.SIGTERM
    assert processes.start(spec("sleep 1000")) == ended


def test_many_starts_at_once_make_one_process(processes: LocalProcesses, tmp_path: Path) -> None:
    seen: list[Observation] = []

    def start() -> None:
        seen.append(LocalProcesses(processes.root).start(spec(f"echo $$ >> {tmp_path}/starts; sleep 1000")))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually((tmp_path / "starts").exists)
    assert len({one.pid for one in seen}) == 1
    assert len((tmp_path / "starts").read_text().split()) == 1


def test_a_new_generation_waits_for_the_old_one(processes: LocalProcesses) -> None:
    processes.start(spec("sleep 1000"))
    with pytest.raises(OtherGenerationError, match="Generation 1 of wl/main still runs"):
        processes.start(spec("sleep 1000", generation=2))
    processes.stop("wl", generation=1)
    gone(processes)
    assert processes.start(spec("sleep 1000", generation=2)).state == "running"
    with pytest.raises(OtherGenerationError, match="outdated"):
        processes.start(spec("true", generation=0))
    assert [one.generation for one in processes.observe("wl")] == [2]


def test_escapees_die_with_the_workload(processes: LocalProcesses, tmp_path: Path) -> None:
    escape = f"""
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.environ.clear()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open({str(tmp_path / "escaped")!r}, "w").write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""
    processes.start(spec("", argv=(sys.executable, "-I", "-c", escape)))
    escaped = read_pid(tmp_path / "escaped")
    processes.stop("wl", grace_s=1)
    gone(processes)
    assert tree.started(escaped) is None


def test_what_a_finished_process_left_behind_ends_too(processes: LocalProcesses, tmp_path: Path) -> None:
    processes.start(spec(f"setsid sleep 1000 & echo $! > {tmp_path}/left; exit 0"))
    seen = gone(processes)
    assert seen.exit_code == 0
    assert tree.started(read_pid(tmp_path / "left")) is None


def test_a_process_that_ignores_the_request_is_killed(processes: LocalProcesses, tmp_path: Path) -> None:
    processes.start(spec(f"trap '' TERM; touch {tmp_path}/trapped; while :; do sleep 1; done"))
    eventually((tmp_path / "trapped").exists)
    processes.stop("wl", grace_s=600)
    processes.stop("wl", grace_s=0.1)  # the shorter grace wins
    assert gone(processes).signal == signal.SIGKILL


def test_stop_may_be_repeated_and_missing_is_no_error(processes: LocalProcesses) -> None:
    processes.stop("never")
    processes.start(spec("sleep 1000"))
    for _ in range(3):
        processes.stop("wl")
    gone(processes)
    processes.stop("wl")
    assert processes.observe("never") == []


def test_stop_ends_one_role_and_leaves_the_others(processes: LocalProcesses) -> None:
    processes.start(spec("sleep 1000", role="head"))
    processes.start(spec("sleep 1000", role="worker-1"))
    processes.stop("wl", role="worker-1")
    left = {"head": "running", "worker-1": "exited"}
    eventually(lambda: {one.role: one.state for one in processes.observe("wl")} == left)


def test_outlives_the_process_that_started_it(processes: LocalProcesses) -> None:
    program = f"""
from pathlib import Path
from moorage_spawners.launch import *
LocalProcesses(Path({str(processes.root)!r})).start(
    ProcessSpec("wl", 1, "main", ("/bin/sleep", "1000"), {{}}, "/tmp", Identity(None, None, "/tmp"), None))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert only(processes).state == "running"


def test_a_program_that_cannot_start_says_why(processes: LocalProcesses) -> None:
    seen = processes.start(spec("", argv=("/nowhere/python",)))
    assert seen.gone
    assert seen.message == "It could not be started: its program /nowhere/python: No such file or directory."
    seen = processes.start(spec("true", role="other", cwd="/nowhere"))
    assert seen.message == "It could not be started: its folder /nowhere: No such file or directory."


@pytest.mark.parametrize("grace", [5.0, 0.0])
def test_what_a_killed_shim_left_is_lost_until_stopped(processes: LocalProcesses, tmp_path: Path, grace: float) -> None:
    started = processes.start(spec(f"setsid sleep 1000 & echo $! > {tmp_path}/left; sleep 1000"))
    left = read_pid(tmp_path / "left")
    (record,) = processes.root.glob("wl/main/1/record.json")
    shim = int(record.read_text().split('"shim_pid": ')[1].split(",")[0])
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: only(processes).state == "lost")
    assert only(processes).pid == started.pid
    processes.stop("wl", grace_s=grace)
    seen = gone(processes)
    assert seen.message is not None
    assert seen.message.startswith("How it ended is not known")
    assert tree.started(left) is None


def test_a_killed_shim_with_nothing_left_is_gone(processes: LocalProcesses) -> None:
    started = processes.start(spec("exec sleep 1000"))
    assert started.pid is not None
    (record,) = processes.root.glob("wl/main/1/record.json")
    shim = int(record.read_text().split('"shim_pid": ')[1].split(",")[0])
    os.kill(shim, signal.SIGKILL)
    os.kill(started.pid, signal.SIGKILL)
    assert gone(processes).exit_code is None


def test_the_environment_does_not_stay_on_disk(processes: LocalProcesses) -> None:
    processes.start(spec("echo $TOKEN; sleep 1000"))
    eventually(lambda: processes.log_path("wl", "main").read_text() == "hidden\n")
    for path in processes.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
        if path.is_file() and path.name != "log":
            assert "hidden" not in path.read_text(), path


def test_forget_removes_only_what_is_gone(processes: LocalProcesses) -> None:
    processes.start(spec("sleep 1000"))
    processes.forget("wl")
    assert only(processes).state == "running"
    processes.stop("wl")
    gone(processes)
    processes.forget("wl")
    processes.forget("wl")
    assert processes.observe_all() == []


def test_one_role_is_forgotten_beside_others_that_run(processes: LocalProcesses) -> None:
    processes.start(spec("sleep 1000"))
    processes.start(spec("exit 0", role="other"))
    eventually(lambda: any(each.gone for each in processes.observe("wl")), what="the end of the other")
    processes.forget("wl", role="main")
    processes.forget("wl", role="other")
    assert [(each.role, each.state) for each in processes.observe("wl")] == [("main", "running")]


@pytest.mark.parametrize("name", ["", "../up", "A", "a/b", "."])
def test_names_that_could_leave_the_folder_are_refused(processes: LocalProcesses, name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        processes.observe(name)
    with pytest.raises(ValueError, match="lower-case"):
        processes.log_path("wl", name)


def test_a_workload_never_runs_as_root() -> None:
    with pytest.raises(ValueError, match="never runs as root"):
        Identity(0, 0, "/root")


def test_another_users_identity(processes: LocalProcesses) -> None:
    seen = processes.start(spec("id -u; id -G; umask; grep NoNewPrivs /proc/self/status; sleep 0", identity=USER))
    if not AS_ROOT:
        assert seen.message == "It could not be started: changing to uid 20017: Operation not permitted."
        return
    gone(processes)
    assert processes.log_path("wl", "main").read_text() == "20017\n20017\n0077\nNoNewPrivs:\t1\n"


def test_sizes_bind_or_the_page_says_that_they_do_not(processes: LocalProcesses) -> None:
    sentence = processes.limits_enforced()
    hog = "b = []\nwhile True: b.append(bytearray(1 << 20))"
    if sentence is not None:
        assert "Sizes are advisory here" in sentence
        return
    processes.start(spec("", argv=(sys.executable, "-I", "-c", hog), size=Size(cpu=0.5, memory=64 << 20)))
    seen = gone(processes)
    assert seen.out_of_memory
    assert seen.message == "It ran out of memory."
    assert seen.signal == signal.SIGKILL


def test_groups_are_removed_with_their_workload(processes: LocalProcesses) -> None:
    processes.start(spec("sleep 1000", size=Size(cpu=1, memory=1 << 30)))
    (record,) = processes.root.glob("wl/main/1/record.json")
    folders = json.loads(record.read_text())["cgroups"]
    assert bool(folders) or processes.limits_enforced() is not None
    assert all(os.path.isdir(folder) for folder in folders)
    processes.stop("wl")
    gone(processes)
    assert not any(os.path.exists(folder) for folder in folders)


def test_two_installations_do_not_end_each_others_workloads(processes: LocalProcesses, tmp_path: Path) -> None:
    other = LocalProcesses(tmp_path / "other")
    processes.start(spec("sleep 1000"))
    theirs = other.start(spec("sleep 1000"))
    processes.stop("wl", grace_s=0)
    gone(processes)
    assert tree.started(theirs.pid or 0) is not None
    other.stop("wl", grace_s=0)
    gone(other)
