"""How many workers, which ones, and when a lost one is replaced: pure arithmetic on what the agent reported.

A cluster grows at once to what its work could use, and shrinks by workers that were idle for a while; always between
min and max, so always inside what was admitted. Worker names are never used twice in a cluster's life.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moorage.wire import AgentReport, ClusterSpec

FAILURES_KEPT_S = 600.0
GIVE_UP_AFTER = 6  # losses within that time
LONGEST_PAUSE_S = 60.0
GONE_KEPT = 10  # workers that are gone whose log is kept: a cluster that lives long grows and shrinks often


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The workers that should be. Kept in the store.

    `workers`: names that should run. `retiring`: names that were asked to go and still may. `failures`: when workers were
    lost, epoch seconds. `gpus`: devices of each name, until it is observed gone.
    """

    target: int
    workers: tuple[str, ...] = ()
    retiring: tuple[str, ...] = ()
    failures: tuple[float, ...] = ()
    gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    next_number: int = 1

    def to_store(self) -> dict[str, Any]:
        return {
            "workers": list(self.workers), "retiring": list(self.retiring), "failures": list(self.failures),
            "gpus": {name: list(devices) for name, devices in self.gpus.items()}, "next": self.next_number,
        }  # fmt: skip

    @classmethod
    def from_store(cls, target: int, stored: Mapping[str, Any]) -> "Fleet":
        return cls(
            target=target,
            workers=tuple(stored.get("workers", ())),
            retiring=tuple(stored.get("retiring", ())),
            failures=tuple(stored.get("failures", ())),
            gpus={name: tuple(devices) for name, devices in stored.get("gpus", {}).items()},
            next_number=stored.get("next", 1),
        )


def rescale(fleet: Fleet, spec: ClusterSpec, report: AgentReport, *, idle_s: float) -> Fleet:
    """The fleet after a report: a new target, and idle workers chosen to retire."""
    if not report.versions:
        return fleet  # the engine did not answer: nothing is known
    fleet = _reprieve(fleet, {worker.name for worker in report.workers if worker.busy})
    wanted = min(max(report.wanted, spec.min_workers), spec.max_workers)
    if wanted >= fleet.target:
        return replace(fleet, target=wanted)
    idle = sorted(
        (each for each in report.workers if not each.busy and each.idle_s >= idle_s and each.name in fleet.workers),
        key=lambda each: (each.idle_s, each.name),
        reverse=True,
    )
    chosen = [each.name for each in idle[: fleet.target - wanted]]
    return replace(
        fleet,
        target=fleet.target - len(chosen),
        workers=tuple(name for name in fleet.workers if name not in chosen),
        retiring=(*fleet.retiring, *chosen),
    )


def _reprieve(fleet: Fleet, busy: Collection[str]) -> Fleet:
    """A worker that got work before it went stays; it counts as wanted again."""
    back = tuple(name for name in fleet.retiring if name in busy)
    if not back:
        return fleet
    return replace(
        fleet,
        target=max(fleet.target, len(fleet.workers) + len(back)),
        workers=(*fleet.workers, *back),
        retiring=tuple(name for name in fleet.retiring if name not in back),
    )


def orders(fleet: Fleet, report: AgentReport) -> list[str]:
    """Whom the agent shall retire: those of the retiring whom it still sees."""
    return [worker.name for worker in report.workers if worker.name in fleet.retiring]


def lose(fleet: Fleet, names: Collection[str], now: float) -> Fleet:
    """These workers are gone without having been asked to."""
    recent = [each for each in fleet.failures if each > now - FAILURES_KEPT_S]
    return replace(
        fleet,
        workers=tuple(name for name in fleet.workers if name not in names),
        failures=(*recent, *(now for name in fleet.workers if name in names)),
    )


def missing(since: Mapping[str, float], fleet: Fleet, report: AgentReport, now: float) -> dict[str, float]:
    """Workers that should be there and that the engine does not have, with the moment from which it has not; unchanged while it is away."""
    if not report.versions:
        return dict(since)
    there = {worker.name for worker in report.workers}
    return {name: since.get(name, now) for name in fleet.workers if name not in there}


def give_up_on(fleet: Fleet, names: Collection[str], now: float) -> Fleet:
    """These run but do not join: they are to go, and count as lost. Their place is free once they are gone."""
    return replace(
        fleet,
        workers=tuple(name for name in fleet.workers if name not in names),
        retiring=(*fleet.retiring, *names),
        failures=(*fleet.failures, *(now for _ in names)),
    )


def found(fleet: Fleet, roles: Collection[str]) -> Fleet:
    """The fleet with the workers that are seen to run, of which the store did not know: they stay, and their names are theirs."""
    prefix = "worker-"
    seen = sorted((role for role in roles if role.startswith(prefix)), key=lambda role: int(role.removeprefix(prefix)))
    new = tuple(name for name in seen if name not in (*fleet.workers, *fleet.retiring))
    workers = (*fleet.workers, *new)
    numbers = [int(name.removeprefix(prefix)) for name in (*workers, *fleet.retiring)]
    return replace(
        fleet,
        target=max(fleet.target, len(workers)),
        workers=workers,
        next_number=max([fleet.next_number, *(number + 1 for number in numbers)]),
    )


def clear(fleet: Fleet, gone: Collection[str]) -> Fleet:
    """These names are observed gone: their devices are free, and nobody waits for them to retire."""
    return replace(
        fleet,
        retiring=tuple(name for name in fleet.retiring if name not in gone),
        gpus={name: devices for name, devices in fleet.gpus.items() if name not in gone},
    )


def forgettable(gone: Collection[str]) -> list[str]:
    """Of the roles that are gone, the workers but for the latest few."""
    numbers = sorted(int(role.removeprefix("worker-")) for role in gone if role.startswith("worker-"))
    return [f"worker-{number}" for number in numbers[:-GONE_KEPT]]


def fill(fleet: Fleet, spec: ClusterSpec, devices: Sequence[str], now: float) -> Fleet:
    """Names for the workers that are missing, each with its GPUs. After losses, only once the pause is over.

    While retiring workers still run, the whole never exceeds the maximum that was admitted.
    """
    if now < next_attempt(fleet, now):
        return fleet
    while len(fleet.workers) < fleet.target and len(fleet.workers) + len(fleet.retiring) < spec.max_workers:
        taken = {device for held in fleet.gpus.values() for device in held}
        free = [device for device in devices if device not in taken]
        if len(free) < spec.worker.gpu:
            break
        name = f"worker-{fleet.next_number}"
        gpus = {**fleet.gpus, name: tuple(free[: spec.worker.gpu])} if spec.worker.gpu else fleet.gpus
        fleet = replace(fleet, workers=(*fleet.workers, name), gpus=gpus, next_number=fleet.next_number + 1)
    return fleet


def next_attempt(fleet: Fleet, now: float) -> float:
    """When the next lost worker may be replaced: at once after the first loss, then later and later."""
    recent = [each for each in fleet.failures if each > now - FAILURES_KEPT_S]
    if len(recent) < 2:
        return now
    return float(recent[-1] + min(LONGEST_PAUSE_S, 2.0 ** (len(recent) - 1)))


def hopeless(fleet: Fleet, now: float) -> bool:
    """Workers are lost as soon as they start: more of them will not help."""
    recent = [each for each in fleet.failures if each > now - FAILURES_KEPT_S]
    return len(recent) >= GIVE_UP_AFTER
