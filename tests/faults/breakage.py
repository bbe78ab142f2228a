"""Breaking parts of a real cluster, and what must hold whatever broke."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from moorage_service.store.tables import ClusterRow, ReservationRow
from moorage_spawners.shim import tree
from tests.service.engines_bench import Bench
from tests.waiting import eventually


def processes_of(bench: Bench, cluster: str, role: str) -> dict[int, str]:
    """Every process of a role that lives, by pid: its program's name."""
    seen = next(each for each in bench.context.processes.observe(cluster) if each.role == role)
    assert seen.pid is not None, seen
    found = {}
    for pid in {seen.pid, *tree.descendants(seen.pid)}:
        try:
            found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        except FileNotFoundError:
            continue
    return found


def kill(bench: Bench, cluster: str, role: str, *, program: str | None = None) -> None:
    """SIGKILL to all of a role at once, as a power cut would; or to one program of it."""
    victims = [pid for pid, name in processes_of(bench, cluster, role).items() if program in (None, name)]
    assert victims, f"{role} has no {program}"
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):  # it ended with one that was killed before it
            os.kill(pid, signal.SIGKILL)


def held(bench: Bench, cluster: str) -> tuple[dict[str, Any], bool]:
    """What is reserved for it, and whether it still is."""
    with bench.context.database.read() as session:
        row = session.get_one(ReservationRow, cluster)
        return dict(row.amounts), row.released_at is None


def roles(bench: Bench, cluster: str) -> set[str]:
    return {each.role for each in bench.context.processes.observe(cluster) if not each.gone}


def back_to_size(bench: Bench, cluster: str, worker: str) -> float:
    """Waits until `worker` has taken a lost one's place; seconds since the call."""
    begun = time.perf_counter()

    def there() -> bool:
        found = bench.cluster(cluster)
        assert found["phase"] in ("ready", "starting"), found
        with bench.context.database.read() as session:
            report = session.get_one(ClusterRow, cluster).report or {}
        named = {each["name"] for each in report.get("workers", ())}
        return bool(
            found["phase"] == "ready" and named == {worker} == {r for r in roles(bench, cluster) if "worker" in r}
        )

    eventually(there, within=300, what=f"{worker} in its place")
    return time.perf_counter() - begun


def ended(bench: Bench, cluster: str, phase: str) -> tuple[dict[str, Any], float]:
    """Waits for its end: what the owner sees then, and the seconds since the call. Nothing is left, what it held is released."""
    begun = time.perf_counter()
    found = bench.wait(cluster, phase, within=300)
    assert found["ended_at"] is not None
    assert held(bench, cluster)[1] is False
    assert bench.context.processes.observe(cluster) == []
    return found, time.perf_counter() - begun
