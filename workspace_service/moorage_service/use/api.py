"""Use over time: everybody's for admins, and one's own. As JSON, or as CSV for a spreadsheet."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from moorage.wire import Use
from moorage.wire.use import UseBy
from moorage_service import sheets
from moorage_service.context import Ctx
from moorage_service.identity.callers import RequireAdmin, RequireUser
from moorage_service.use import operations
from moorage_service.use.buckets import MOST_DAYS

router = APIRouter(tags=["use"])

Resource = Annotated[str, Query(max_length=60, description="cpu, memory, gpu, gpu:TYPE, notebooks, clusters or runs.")]
Days = Annotated[int, Query(ge=1, le=MOST_DAYS, description="How far back; the current hour or day is the last one.")]
TimeZone = Annotated[str, Query(max_length=100, description="In which hours and days begin, such as Europe/Berlin.")]


@router.get("/use", response_model=Use, responses=sheets.ALSO_CSV)
def use_of_all(
    context: Ctx, caller: RequireAdmin, csv: sheets.AsCsv, resource: Resource = "cpu", by: UseBy = "user", days: Days = 7,
    timezone: TimeZone = "UTC",
) -> Use | Response:  # fmt: skip
    """What everybody held over time, exactly: amount x hours, hour by hour or day by day."""
    asked = operations.Question(resource=resource, by=by, days=days, timezone=timezone)
    with context.database.read() as session:
        found = operations.use(session, asked, now=context.clock(), capacity=context.capacity)
    return _sheet(found, days) if csv else found


@router.get("/me/use", response_model=Use, responses=sheets.ALSO_CSV)
def my_use(
    context: Ctx, caller: RequireUser, csv: sheets.AsCsv, resource: Resource = "cpu",
    by: Literal["project", "kind"] = "project", days: Days = 7, timezone: TimeZone = "UTC",
) -> Use | Response:  # fmt: skip
    """What I held over time."""
    asked = operations.Question(resource=resource, by=by, days=days, timezone=timezone)
    with context.database.read() as session:
        found = operations.use(session, asked, now=context.clock(), user_id=caller.user_id)
    return _sheet(found, days) if csv else found


def _sheet(found: Use, days: int) -> Response:
    columns = ["begin", "end", found.by, "resource", "amount", "unit"]
    return sheets.sheet(f"use {found.resource} by {found.by} {days}d", columns, _rows(found))


def _rows(found: Use) -> Iterator[list[sheets.Cell]]:
    ends = [*found.edges[1:-1], found.until]
    for index, (begin, end) in enumerate(zip(found.edges, ends, strict=False)):
        for line in found.lines:
            yield [begin, end, line.name, found.resource, line.amounts[index], found.unit]
