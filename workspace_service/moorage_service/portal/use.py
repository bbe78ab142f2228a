"""What was held over time, drawn: one's own, and everybody's for admins."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response

from moorage.wire import Use
from moorage_jobs.errors import ScheduleError
from moorage_jobs.schedule import zone_named
from moorage_service.context import Ctx
from moorage_service.identity.callers import Caller
from moorage_service.portal import charts, render, words
from moorage_service.portal.access import PageAdmin, PageRoute, PageUser
from moorage_service.settings import PREFIX
from moorage_service.use import api as uses

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SPANS = ((1, "24 hours"), (7, "7 days"), (30, "30 days"), (90, "90 days"))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The span in a few numbers. Amounts in the unit of the use, `average` at once."""

    average: float
    busiest: str | None
    busiest_amount: float
    share: float | None  # of what the machine lends; None where the caller may not know


@router.get("/workloads/over-time")
def my_use(
    request: Request, context: Ctx, caller: PageUser, resource: uses.Resource = "cpu", by: Literal["project", "kind"] = "project",
    days: uses.Days = 7, timezone: uses.TimeZone = "UTC",
) -> Response:  # fmt: skip
    found = uses.my_use(context, caller, False, resource, by, days, known_zone(timezone))
    assert isinstance(found, Use)
    return _page(request, caller, found, days, ("project", "kind"), "me/use")


@router.get("/admin/usage/over-time")
def use_of_all(
    request: Request, context: Ctx, caller: PageAdmin, resource: uses.Resource = "cpu",
    by: Literal["user", "project", "kind"] = "user", days: uses.Days = 7, timezone: uses.TimeZone = "UTC",
) -> Response:  # fmt: skip
    found = uses.use_of_all(context, caller, False, resource, by, days, known_zone(timezone))
    assert isinstance(found, Use)
    return _page(request, caller, found, days, ("user", "project", "kind"), "use")


def _page(request: Request, caller: Caller, found: Use, days: int, groupings: tuple[str, ...], source: str) -> Response:
    zone = ZoneInfo(found.timezone)
    edges = [words.parsed(edge).astimezone(zone) for edge in found.edges]
    titles = [_title(begin, end) for begin, end in pairwise(edges)]
    series = charts.gathered([(line.name, line.amounts, line.total) for line in found.lines])
    asked = {"resource": found.resource, "by": found.by, "days": days, "timezone": found.timezone}
    return render.page(
        request, caller, "use.html", live=30 if days == 1 else None,
        use=found, days=days, spans=SPANS, groupings=groupings, series=series, titles=titles,
        chart=charts.stacked(series, titles, [_mark(edge, days) for edge in edges[:-1]]), says=_says(found, series, titles),
        tones=[charts.tone_of(place, len(found.lines)) for place in range(len(found.lines))], figures=_figures(found, titles),
        resources=sorted({*found.resources, found.resource}, key=words.rank), everybody=source == "use",
        as_csv=f"{PREFIX}/api/v1/{source}?{urlencode({**asked, 'format': 'csv'})}",
        to_span=lambda other: f"{request.url.path}?{urlencode({**asked, 'days': other})}",
    )  # fmt: skip


def known_zone(name: str) -> str:
    """A browser may name a zone by a name that this machine has no data for: UTC then."""
    try:
        zone_named(name)
    except ScheduleError:
        return "UTC"
    return name


def _says(found: Use, series: list[charts.Series], titles: list[str]) -> list[str]:
    """Each column in words: "Sat 21 Nov: 12 core-hours (ada 8, bob 4)"."""
    said = []
    for index, title in enumerate(titles):
        parts = [f"{each.name} {words.figure(each.amounts[index])}" for each in series if each.amounts[index]]
        total = words.figure(sum(each.amounts[index] for each in series))
        said.append(f"{title}: {total} {found.unit}" + (f" ({', '.join(parts)})" if parts else ""))
    return said


def _figures(found: Use, titles: list[str]) -> Figures:
    hours = (words.parsed(found.until) - words.parsed(found.edges[0])) / timedelta(hours=1)
    totals = [sum(each) for each in zip(*(line.amounts for line in found.lines), strict=True)]
    most = max(totals, default=0.0)
    lent = (found.capacity or 0.0) * hours
    return Figures(
        average=found.total / hours if hours else 0.0, busiest=titles[totals.index(most)] if totals else None, busiest_amount=most,
        share=found.total / lent if lent else None,
    )  # fmt: skip


def _title(begin: datetime, end: datetime) -> str:
    """ "Sat 21 Nov", or with its hours: "Sat 21 Nov, 06:00 to 12:00"."""
    if end - begin > timedelta(hours=20):
        return f"{begin:%a %-d %b}"
    return f"{begin:%a %-d %b, %H:%M} to {end:%H:%M}"


def _mark(begin: datetime, days: int) -> str | None:
    if days == 1:
        return f"{begin:%H:%M}" if begin.hour % 3 == 0 else None
    if begin.hour != 0 and days < 30:
        return None
    return f"{begin:%a %-d}" if days < 30 else f"{begin:%-d %b}"
