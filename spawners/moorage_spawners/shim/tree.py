"""Processes as /proc shows them: who descends from whom, and who is left of a workload whose shim was killed."""

import contextlib
import os
from collections.abc import Mapping, Sequence

COOKIE = "MOORAGE_SHIM"  # in the environment of every process of a workload: finds them when nothing else does


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name (state, parent, group, session, ...), or None when gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def started(pid: int) -> str | None:
    """The start time of a living process in clock ticks since boot, or None. With the pid it names one process."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def boot() -> str:
    """Names this run of the machine (or of the container): another one after a restart, when every process is gone."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            kernel = file.read().strip()
    except OSError:
        kernel = ""
    return f"{kernel}/{started(1)}"


def is_same(pid: int | None, start: str | None) -> bool:
    """Whether the process that had this pid and start time still lives (a reused pid has another start time)."""
    return pid is not None and start is not None and started(pid) == start


def living(recorded: Mapping[str, Sequence[object]]) -> dict[str, int]:
    """Of processes that were written down as [pid, start, boot] the pids of those that live."""
    here = boot()
    return {
        name: pid
        for name, (pid, start, *booted) in recorded.items()
        if booted in ([], [here]) and isinstance(pid, int) and isinstance(start, str) and is_same(pid, start)
    }  # 0.1.0 wrote no boot


def descendants(root: int) -> set[int]:
    """Every living process below `root`. Complete when `root` is a child subreaper: orphans come back to it."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        fields = _stat(pid)
        if fields is not None and fields[0] not in "ZX":
            children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), []):
            if pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def marked(cookie: str, session: int | None, leader_start: str | None = None) -> set[int]:
    """Living processes that carry the cookie in their environment, or belong to the workload's session.

    A session keeps its number for itself while anything of it lives: one whose leader began at another time is not the workload's.
    """
    if session is not None and started(session) not in (None, leader_start):
        session = None
    mark = f"{COOKIE}={cookie}".encode()
    found: set[int] = set()
    for pid in pids():
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            continue
        if _carries(pid, mark, default=session is not None and int(fields[3]) == session):
            found.add(pid)
    return found


def _carries(pid: int, mark: bytes, *, default: bool) -> bool:
    """Whether a process was started with the mark; `default` when its environment is empty, False when it is not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            content = file.read()
    except OSError:
        return False
    return mark in content.split(b"\0") if content else default


def signal_all(targets: set[int], number: int) -> None:
    for pid in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
