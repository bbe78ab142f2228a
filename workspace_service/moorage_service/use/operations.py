"""Use of a span, in one pass over the reservations that touch it. They are kept after release, so it tells of what has ended, too."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from sqlalchemy import Row, Select, or_, select
from sqlalchemy.orm import Session

from moorage.wire import Use, UseLine
from moorage.wire.use import UseBy
from moorage_jobs.schedule import zone_named
from moorage_service.clock import to_text
from moorage_service.jobs.problems import as_service_errors
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.resources import COUNTED, Amounts, check_resource, from_units
from moorage_service.store.records import ODD
from moorage_service.store.tables import ProjectRow, ReservationRow, UserRow, WorkloadRow
from moorage_service.use.buckets import HOUR, edges_of, spread

_AT_ONCE = 1000  # rows fetched together
_GIB = 1 << 30
_KINDS = {kind.value: counted for kind, counted in COUNTED.items()}
_ALWAYS = ("cpu", "memory", *_KINDS.values())


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked. As it is answered it raises BadRequest naming the field."""

    resource: str = "cpu"
    by: UseBy = "user"
    days: int = 7
    timezone: str = "UTC"


def use(
    session: Session, asked: Question, *, now: datetime, user_id: str | None = None, capacity: Capacity | None = None
) -> Use:
    """Of everybody, or of one user. `capacity`: to say what the machine lends beside it."""
    resource = check_resource(asked.resource)
    with as_service_errors():
        zone = zone_named(asked.timezone)
    edges = edges_of(asked.days, now, zone)
    held: dict[str, list[int]] = {}
    names: dict[str, str] = {}
    seen = set(_ALWAYS) if capacity is None else {*_ALWAYS, *capacity.amounts}
    key, name = _GROUPINGS[asked.by]
    for row in session.execute(_reservations(edges[0], edges[-1], user_id)).yield_per(_AT_ONCE):
        amounts = _amounts(row)
        seen.update(amounts)
        units = amounts.get(resource, 0)
        if units <= 0:
            continue
        names[key(row)] = name(row)
        line = held.setdefault(key(row), [0] * (len(edges) - 1))
        for bucket, amount in spread(units, row.created_at, row.released_at or now, edges):
            line[bucket] += amount
    lines = [_line(resource, names[each], held[each]) for each in held]
    lent = None if capacity is None else capacity.amounts.get(resource)
    return Use(
        resource=resource, unit=unit_of(resource), by=asked.by, timezone=asked.timezone, edges=[to_text(edge) for edge in edges],
        until=to_text(now), total=_in_unit(resource, sum(map(sum, held.values()))),
        lines=sorted(lines, key=lambda line: (-line.total, line.name)), resources=sorted(seen),
        capacity=None if lent is None else _in_unit(resource, lent * HOUR),
    )  # fmt: skip


def unit_of(resource: str) -> str:
    """ "core-hours", "GiB-hours", "GPU-hours (h200)", "notebook-hours"."""
    if resource.startswith("gpu:"):
        return f"GPU-hours ({resource[4:]})"
    return {"cpu": "core-hours", "memory": "GiB-hours", "gpu": "GPU-hours"}.get(resource, f"{resource[:-1]}-hours")


def _reservations(since: datetime, until: datetime, user_id: str | None) -> Select[tuple[object, ...]]:
    wanted = (
        select(
            ReservationRow.amounts, ReservationRow.created_at, ReservationRow.released_at, WorkloadRow.kind, UserRow.id.label("user_id"),
            UserRow.hub_name, ProjectRow.id.label("project_id"), ProjectRow.slug, ProjectRow.deleted_at,
        )
        .join(WorkloadRow, WorkloadRow.id == ReservationRow.workload_id)
        .join(UserRow, UserRow.id == ReservationRow.user_id)
        .join(ProjectRow, ProjectRow.id == ReservationRow.project_id)
        .where(ReservationRow.created_at < until, or_(ReservationRow.released_at.is_(None), ReservationRow.released_at > since))
    )  # fmt: skip
    return wanted if user_id is None else wanted.where(ReservationRow.user_id == user_id)


def _amounts(row: Row[tuple[object, ...]]) -> Amounts:
    """Of a record that can't be read at least that it is one of its kind, as the ledger counts it."""
    with suppress(*ODD):
        return {str(resource): int(units) for resource, units in row.amounts.items()}
    return {_KINDS[row.kind]: 1} if row.kind in _KINDS else {}


def _project_name(row: Row[tuple[object, ...]]) -> str:
    """A deleted project's slug may be another's by now."""
    return f"{row.slug} (deleted)" if row.deleted_at is not None else str(row.slug)


# What lines are told apart by, and what each is called.
_GROUPINGS: dict[UseBy, tuple[Callable[[Row[tuple[object, ...]]], str], Callable[[Row[tuple[object, ...]]], str]]] = {
    "user": (attrgetter("user_id"), attrgetter("hub_name")),
    "project": (attrgetter("project_id"), _project_name),
    "kind": (attrgetter("kind"), lambda row: _KINDS.get(str(row.kind), str(row.kind))),
}


def _line(resource: str, name: str, buckets: Iterable[int]) -> UseLine:
    found = list(buckets)
    return UseLine(
        name=name, total=_in_unit(resource, sum(found)), amounts=[_in_unit(resource, amount) for amount in found]
    )


def _in_unit(resource: str, unit_microseconds: int) -> float:
    hours = from_units(resource, unit_microseconds) / HOUR
    return hours / _GIB if resource == "memory" else hours
