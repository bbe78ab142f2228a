"""A span's buckets, and what was held in each: pure and exact arithmetic, in whole amounts x microseconds."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

MOST_DAYS = 92
HOUR = 3_600_000_000  # microseconds
_MICROSECOND = timedelta(microseconds=1)


def edges_of(days: int, now: datetime, zone: ZoneInfo) -> list[datetime]:
    """Where buckets begin and end, in UTC: hours for up to two days, quarters of a day for up to two weeks, else days.

    They begin as clocks in `zone` strike, and the last one is that of `now`: it ends after it.
    """
    local = now.astimezone(zone)
    if days <= 2:
        last = local.replace(minute=0, second=0, microsecond=0).astimezone(UTC) + timedelta(hours=1)
        return [last - timedelta(hours=count) for count in range(24 * days, -1, -1)]
    hours = 6 if days <= 14 else 24
    part = local.hour // hours
    struck = []
    for count in range(part - days * 24 // hours + 1, part + 2):
        day, quarter = divmod(count, 24 // hours)
        date = local.date() + timedelta(days=day)
        # By the wall's clock, so that a day begins at midnight when the clocks change, too.
        struck.append(datetime.combine(date, time(hour=quarter * hours), zone).astimezone(UTC))
    return struck


def spread(amount: int, since: datetime, until: datetime, edges: Sequence[datetime]) -> Iterator[tuple[int, int]]:
    """Number of bucket, and amount x microseconds in it, for what was held from `since` to `until`."""
    begin, end = max(since, edges[0]), min(until, edges[-1])
    if begin >= end:
        return
    bucket = bisect_right(edges, begin) - 1
    while begin < end:
        upto = min(end, edges[bucket + 1])
        yield bucket, amount * ((upto - begin) // _MICROSECOND)
        begin, bucket = upto, bucket + 1
