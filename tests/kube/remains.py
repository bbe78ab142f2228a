"""Taking the node away, all of it. It is the same after `down` as after a kill -9: nothing is asked to end in good order.

The node's data goes with it, so there is nothing to save; what matters is that nothing stays behind. Mounts live in a mount
namespace that ends with its last process.
"""

import os
import shutil
import signal
from pathlib import Path

from tests.kube import machine
from tests.kube.commands import run
from tests.kube.journal import Journal
from tests.kube.place import MARK, Place
from tests.waiting import eventually


def remove(place: Place) -> None:
    """Whatever of a node is here: nothing if none is. Raises AssertionError naming what would not go."""
    journal = Journal(place.journal)
    eventually(lambda: _end_processes(place), within=60, what="the end of all processes of the node")
    machine.remove_links()
    machine.remove_rules(journal)
    eventually(machine.remove_cgroups, within=30, what="the end of the node's cgroups")
    machine.restore_settings(journal)
    for mount in _mounts(place):
        run(["umount", "-l", mount])
    _keep_logs(place)
    if place.work.exists():
        shutil.rmtree(place.work)


def find(place: Place) -> dict[str, list[str]]:
    """What is left of a node, by kind, in words. All empty when it is gone."""
    return {
        "processes": [_describe(pid) for pid in _processes(place)],
        "mounts": _mounts(place),
        "links": machine.links(),
        "chains": machine.chains(),
        "rules": machine.rules(),
        "cgroups": [str(folder) for folder in machine.cgroups()],
        "folders": [str(place.work)] if place.work.exists() else [],
    }


def _end_processes(place: Place) -> bool:
    """Kills all there are; whether there were none. A kill may come between a process and its child: asked again."""
    pids = _processes(place)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return not pids


def _processes(place: Place) -> list[int]:
    """Marked ones (the parts, and containerd's shims, which inherit the mark), and what runs in pods."""
    mark = f"{MARK}={place.work}".encode()
    marked = [pid for pid in _all_pids() if mark in _environment(pid)]
    in_pods = [int(pid) for folder in machine.cgroups() for pid in _members(folder)]
    return sorted({*marked, *in_pods})


def _members(cgroup: Path) -> list[str]:
    try:
        return (cgroup / "cgroup.procs").read_text().split()
    except OSError:  # it went meanwhile
        return []


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or is a zombie
        return []


def _describe(pid: int) -> str:
    try:
        said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        said = "(ended)"
    return f"{pid} {said}"


def _mounts(place: Place) -> list[str]:
    """Below the work folder, the innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(place.work)), key=len, reverse=True)


def _keep_logs(place: Place) -> None:
    if place.kept_logs and place.logs.exists():
        shutil.copytree(place.logs, place.kept_logs, dirs_exist_ok=True)
