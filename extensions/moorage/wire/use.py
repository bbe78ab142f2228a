"""Use over time: what was held, integrated over each of a span's buckets."""

from dataclasses import dataclass, field
from typing import Literal

UseBy = Literal["user", "project", "kind"]


@dataclass(frozen=True, kw_only=True)
class UseLine:
    """One user's, project's or kind's part."""

    name: str
    total: float
    amounts: list[float] = field(default_factory=list)  # one for each bucket


@dataclass(frozen=True, kw_only=True)
class Use:
    """What was held of one resource from `edges[0]` to `until`. Amounts are in `unit`, such as core-hours or GiB-hours.

    Bucket i goes from `edges[i]` to `edges[i + 1]`; the last one is still under way at `until`.
    """

    resource: str
    unit: str
    by: UseBy
    timezone: str  # in which hours and days begin
    edges: list[str] = field(default_factory=list)
    until: str = ""
    total: float = 0.0
    lines: list[UseLine] = field(default_factory=list)  # the one that used the most first
    resources: list[str] = field(default_factory=list)  # those there is anything to say about
    capacity: float | None = None  # what the machine lends at once, in the unit without its hours; for admins
