"""The disk with the workloads' records is full: what ended is known all the same, and what runs can be stopped."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage_spawners.launch import LocalProcesses, Observation
from moorage_spawners.shim import tree
from tests.small_disk import SmallDisk, small_disk
from tests.spawners.test_launch import gone, only, read_pid, spec
from tests.waiting import eventually


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "workloads", "256k") as disk:
        yield disk


@pytest.fixture
def processes(disk: SmallDisk) -> Iterator[LocalProcesses]:
    found = LocalProcesses(disk.folder)
    yield found

    def ended() -> bool:
        for seen in found.observe_all():
            found.stop(seen.workload_id, grace_s=0)
        return all(seen.gone for seen in found.observe_all())

    eventually(ended, what="the end of every process")


def running(processes: LocalProcesses, script: str, tmp_path: Path) -> tuple[int, int]:
    """The pids of a program that has begun, and of its shim."""
    processes.start(spec(f"echo $$ > {tmp_path}/pid; {script}"))
    pid = read_pid(tmp_path / "pid")
    folder = processes._folder("wl", "main", 1)
    record = folder.record()
    assert record is not None
    assert record["pid"] == pid
    return pid, record["shim_pid"]


def torn(disk: SmallDisk) -> list[Path]:
    return list(disk.folder.rglob("*.json.*"))


def tried(folder: Path) -> None:
    """Waits until its shim has tried to write something."""
    before = folder.stat().st_mtime_ns
    eventually(lambda: folder.stat().st_mtime_ns > before, what="a try to write it down")


def test_how_it_ended_is_written_down_once_there_is_room(
    processes: LocalProcesses, disk: SmallDisk, tmp_path: Path
) -> None:
    pid, shim = running(processes, f"until [ -e {tmp_path}/go ]; do sleep 0.05; done", tmp_path)
    disk.fill()
    folder = processes._folder("wl", "main", 1).path
    (tmp_path / "go").touch()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), what="its end")
    tried(folder)
    tried(folder)
    [seen] = processes.observe_all()
    assert not seen.gone  # what it holds is given back when its end is known
    assert tree.started(shim) is not None
    disk.empty()
    ended = gone(processes)
    assert (ended.exit_code, ended.signal, ended.message) == (0, None, None)
    assert torn(disk) == []


def test_that_it_runs_is_written_down_once_there_is_room(processes: LocalProcesses, disk: SmallDisk) -> None:
    """Between its first record and its second the disk is full."""
    processes.start(spec("exec sleep 1000", role="other"))
    folder = processes._folder("wl", "main", 1)
    folder.path.mkdir(parents=True)
    # Its log is a pipe that nobody reads yet: it has begun, and its program waits.
    os.mkfifo(folder.path / "log")
    ready: list[Observation] = []

    starter = threading.Thread(target=lambda: ready.append(processes.start(spec("exec sleep 1000"))))
    starter.start()
    eventually(lambda: folder.record() is not None, what="its first record")
    disk.fill()
    reader = os.open(folder.path / "log", os.O_RDONLY | os.O_NONBLOCK)
    starter.join()
    assert ready[0].state == "starting"
    disk.empty()
    eventually(lambda: [seen.state for seen in processes.observe("wl") if seen.role == "main"] == ["running"])
    os.close(reader)


def test_what_nobody_watches_any_more_is_seen_gone(processes: LocalProcesses, disk: SmallDisk, tmp_path: Path) -> None:
    pid, shim = running(processes, "exec sleep 1000", tmp_path)
    disk.fill()
    os.kill(shim, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: tree.started(pid) is None and tree.started(shim) is None, what="their end")
    for _ in range(2):
        [seen] = processes.observe_all()
        assert seen.gone
    assert torn(disk) == []


@pytest.mark.parametrize("heeds", [True, False])
def test_what_runs_can_be_stopped(processes: LocalProcesses, disk: SmallDisk, tmp_path: Path, heeds: bool) -> None:
    trap = "echo over >> {}/said; exit 0" if heeds else "echo asked >> {}/said"
    script = f"trap '{trap.format(tmp_path)}' TERM; while :; do sleep 0.05; done"
    pid, _ = running(processes, script, tmp_path)
    disk.fill()
    processes.stop("wl", grace_s=1000)
    processes.stop("wl", grace_s=1000)
    eventually((tmp_path / "said").exists, what="the signal")
    if not heeds:
        assert tree.started(pid) is not None
        processes.stop("wl", grace_s=0)
    eventually(lambda: only(processes).gone, what="its end, although it can't be written down")
    assert (tmp_path / "said").read_text() == ("over\n" if heeds else "asked\n")
    assert torn(disk) == []
