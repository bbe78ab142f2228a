"""Places at which a test may kill this process, as a power cut would: between two steps that are meant to be safe apart.

`MOORAGE_CRASH_AT=NAME` kills it (SIGKILL) at the first arrival at NAME, `NAME:3` at the third; `NAME:stop` and `NAME:3:stop` pause it
there (SIGSTOP) until it is sent SIGCONT. Unset, as always outside of tests, `reach` does nothing. The environment is read here and once,
so that hub, service and shims share one switch.
"""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

# Every name there is, so that a misspelt one is an error instead of a test that never crashes anything.
POINTS: frozenset[str] = frozenset(
    {
        "bind.committed",
        "bind.recorded",
        "build.claimed",
        "build.recorded",
        "build.sealed",
        "cluster.cleared",
        "cluster.ended",
        "cluster.planned",
        "cluster.started",
        "cluster.stopped",
        "create.committed",
        "create.recorded",
        "fire.claimed",
        "fire.committed",
        "launch.spawned",
        "launch.stop_asked",
        "launch.written",
        "notebook.committed",
        "notebook.ended",
        "notebook.recorded",
        "notebook.stop_asked",
        "pod.answers",
        "pod.remembered",
        "pod.started",
        "promote.committed",
        "promote.recorded",
        "promote.stored",
        "release.committed",
        "release.recorded",
        "run.admitted",
        "run.claimed",
        "run.committed",
        "run.concluded",
        "run.concluding",
        "run.prepared",
        "run.recorded",
        "run.started",
        "spawner.admitted",
        "spawner.answers",
        "spawner.remembered",
        "spawner.started",
        "stop.committed",
        "stop.recorded",
    }
)
STOP = ":stop"


@dataclass
class CrashPlan:
    """Dies at the `arrivals_left`-th arrival at `point`, or is paused."""

    point: str
    arrivals_left: int
    sends: int = signal.SIGKILL


def read_plan(environ: Mapping[str, str]) -> CrashPlan | None:
    """What `MOORAGE_CRASH_AT` says. Raises ValueError for a point that does not exist or a count that is none."""
    wish = environ.get("MOORAGE_CRASH_AT", "")
    if not wish:
        return None
    point, _, count = wish.removesuffix(STOP).partition(":")
    if point not in POINTS:
        raise ValueError(f"MOORAGE_CRASH_AT={wish!r}: there is no point {point!r}; one of {', '.join(sorted(POINTS))}")
    if count and not (count.isdecimal() and int(count) > 0):
        raise ValueError(f"MOORAGE_CRASH_AT={wish!r}: after the colon stands at which arrival, from 1 on")
    return CrashPlan(point, int(count or 1), signal.SIGSTOP if wish.endswith(STOP) else signal.SIGKILL)


_plan = read_plan(os.environ)


def reach(point: str) -> None:
    """Marks a place between two steps. Raises ValueError for a name that is not in `POINTS`."""
    if point not in POINTS:
        raise ValueError(f"crash point {point!r} is not in POINTS")
    if _plan is None or _plan.point != point:
        return
    _plan.arrivals_left -= 1
    if _plan.arrivals_left == 0:
        os.kill(os.getpid(), _plan.sends)
