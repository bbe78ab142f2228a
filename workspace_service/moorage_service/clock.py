"""Time, in one place: aware UTC datetimes inside, ISO 8601 text with a Z outside."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: "2026-11-21T06:00:00.000Z"."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_text(moment: datetime | None) -> str | None:
    return None if moment is None else to_text(moment)
