"""How many workers the work there is could use: pure arithmetic on what Ray says is running and waiting."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MOST = 1000  # nobody lends more; keeps the arithmetic bounded
Bundle = Mapping[str, float]
# Resources that every node has by itself, or that bind a task to a node: a new worker can't be had for them.
_IGNORED = ("object_store_memory",)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """`count` equal tasks or actors that each need `bundle` free on one worker."""

    bundle: Bundle
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Gang:
    """A placement group that waits. STRICT_PACK: all on one worker; STRICT_SPREAD: each on a worker of its own."""

    bundles: Sequence[Bundle]
    strategy: str = "PACK"


@dataclass(frozen=True, kw_only=True)
class Demand:
    wanted: int
    impossible: list[Bundle] = field(default_factory=list)  # fit no worker of this cluster, however many there are


def demand(
    worker: Bundle, free: Sequence[Bundle], busy: Sequence[bool], waiting: Iterable[Waiting], gangs: Iterable[Gang]
) -> Demand:
    """`free[i]` and `busy[i]` are of worker i; `worker` is what a new one offers. First fit, the largest first."""
    bins = [dict(each) for each in free]
    used = list(busy)
    impossible: list[Bundle] = []
    least = 0
    pieces = list(waiting)
    for gang in gangs:
        if gang.strategy == "STRICT_PACK":
            pieces.append(Waiting(bundle=_sum(gang.bundles)))
        else:
            pieces += [Waiting(bundle=bundle) for bundle in gang.bundles]
        if gang.strategy == "STRICT_SPREAD":
            least = max(least, len(gang.bundles))
    for piece in sorted(pieces, key=lambda piece: -sum(_needs(piece.bundle).values())):
        needs = _needs(piece.bundle)
        if not needs:
            continue
        if _times(worker, needs) < 1:
            impossible.append(piece.bundle)
            continue
        _place(needs, piece.count, worker, bins, used)
    return Demand(wanted=max(least, sum(used)), impossible=impossible)


def _place(needs: Bundle, count: int, worker: Bundle, bins: list[dict[str, float]], used: list[bool]) -> None:
    for index, room in enumerate(bins):
        taken = min(count, _times(room, needs))
        if taken:
            _take(room, needs, taken)
            used[index] = True
            count -= taken
    while count > 0 and len(bins) < MOST:
        room = dict(worker)
        taken = min(count, _times(room, needs))
        _take(room, needs, taken)
        bins.append(room)
        used.append(True)
        count -= taken


def _needs(bundle: Bundle) -> dict[str, float]:
    return {name: amount for name, amount in bundle.items() if amount > 0 and name not in _IGNORED}


def _times(room: Bundle, needs: Bundle) -> int:
    """How often `needs` fits into `room`."""
    return min(math.floor(room.get(name, 0.0) / amount + 1e-9) for name, amount in needs.items())


def _take(room: dict[str, float], needs: Bundle, times: int) -> None:
    for name, amount in needs.items():
        room[name] = room.get(name, 0.0) - amount * times


def _sum(bundles: Iterable[Bundle]) -> Bundle:
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0.0) + amount
    return total
