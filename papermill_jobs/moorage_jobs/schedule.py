"""When a schedule fires, and what to do with fires that were missed or that overlap.

Five cron fields as Debian's cron reads them (day 0 of the week is Sunday; when neither day field starts with a star,
either of them suffices), or one of the aliases @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; in a
named time zone.

When the clocks change (the rules of Debian's cron):

- A schedule at fixed times, whose minute and hour fields start without a star, fires exactly once for each time it
  names. A time that does not exist (02:30 in the night in which 02:00 becomes 03:00) fires at the first moment after
  the gap, 03:00. A time that comes twice fires at its first coming only.
- A schedule whose minute or hour field starts with a star follows elapsed time: `*/30 * * * *` fires every half hour,
  be the hour named twice or not at all.

Fire times are computed, kept and compared in UTC; the zone's name is kept beside them.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from moorage.wire.jobs import Missed, Overlap, Schedule, SchedulePreview
from moorage_jobs.errors import ScheduleError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MAX_DUE = 20_000  # two weeks of minutes: of more missed fires than that, only the latest are looked at
_LONGEST = 200  # characters of a cron text: every minute of an hour as a list has 167
_RECORDED = 20  # left-out fires that get a row of their own


@dataclass(frozen=True)
class Timetable:
    """A checked schedule. `expression` has five fields; an alias was written out."""

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Fire times strictly after `moment` (aware), in UTC, strictly growing. Ends after 50 years without any."""
        last = moment.astimezone(UTC)
        for local in CronSim(self.expression, moment.astimezone(self.zone)):
            fire = local.astimezone(UTC)
            if fire > last:
                last = fire
                yield fire

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire after `moment`, in UTC; None if there is none within 50 years."""
        return next(self.after(moment), None)

    @property
    def words(self) -> str:
        """The schedule in English: "At 06:00 every day"."""
        return str(CronSim(self.expression, datetime(2026, 1, 1, tzinfo=UTC)).explain())

    @property
    def fixed_times(self) -> bool:
        minute, hour = self.expression.split()[:2]
        return not minute.startswith("*") and not hour.startswith("*")


def parse(cron: str, timezone: str = "UTC") -> Timetable:
    """Checks a cron text and a zone's name; raises ScheduleError with a sentence that says what to give instead."""
    if len(cron) > _LONGEST:
        raise ScheduleError(
            f"cron: the text has {len(cron)} characters; the most is {_LONGEST}. Give five fields, as in '0 6 * * 1-5'.",
            field="cron",
        )
    text = " ".join(cron.split())
    expression = ALIASES.get(text.lower(), text)
    if expression.startswith("@"):
        raise ScheduleError(
            f"cron: '{cron}' is no alias here. Use one of {', '.join(ALIASES)}, or five fields.", field="cron"
        )
    if "=" in expression:
        raise ScheduleError(
            f"cron: '{cron}' names a time zone within. Give it in the field 'timezone' instead.", field="cron"
        )
    fields = expression.split(" ") if expression else []
    if len(fields) != 5:
        raise ScheduleError(
            f"cron: '{cron}' has {len(fields)} fields instead of five. Give minute, hour, day of the month, month and "
            f"day of the "
            "week, as in '0 6 * * 1-5'.",
            field="cron",
        )
    try:
        CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        part = str(error).removeprefix("Bad ")
        raise ScheduleError(
            f"cron: the {part} in '{cron}' is not one that exists. "
            f"{_RANGES.get(part, 'Look at the five fields again.')}",
            field="cron",
        ) from None
    return Timetable(expression, zone_named(timezone))


_RANGES = {
    "minute": "It is 0 to 59, '*', a list or a step such as '*/15'.",
    "hour": "It is 0 to 23, '*', a list or a step such as '*/2'.",
    "day-of-month": "It is 1 to 31, 'L' for the last, and must exist in the months named.",
    "month": "It is 1 to 12 or JAN to DEC.",
    "day-of-week": "It is 0 (Sunday) to 6, or SUN to SAT.",
}


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    """Reading them takes tens of milliseconds. A zone's own rules are read once in a process as well."""
    return frozenset(available_timezones())


def zone_named(name: str) -> ZoneInfo:
    """Raises ScheduleError (field `timezone`) for a name that is no time zone's."""
    if name not in _zones():
        near = [zone for zone in sorted(_zones()) if name.strip().lower() in zone.lower()][:3] if name.strip() else []
        hint = f" Did you mean {' or '.join(near)}?" if near else " Give a name such as Europe/Berlin or UTC."
        raise ScheduleError(f"timezone: '{name[:80]}' is not a time zone that is known here.{hint}", field="timezone")
    return ZoneInfo(name)


def preview(schedule: Schedule, now: datetime, count: int = 5) -> SchedulePreview:
    """The schedule in words, its next `count` fires with their offsets, and a warning if a change of clocks touches
    it.
    """
    table = parse(schedule.cron, schedule.timezone)
    fires = []
    for fire in table.after(now):
        fires.append(fire.astimezone(table.zone).isoformat(timespec="seconds"))
        if len(fires) == count:
            break
    return SchedulePreview(words=table.words, next=fires, warning=clock_warning(table, now))


def clock_warning(table: Timetable, now: datetime) -> str | None:
    """A sentence for each change of clocks within a year of `now` that falls on one of the schedule's fixed times."""
    if not table.fixed_times:
        return None
    sentences = []
    for change in _changes(table.zone, now, now + timedelta(days=366)):
        before = change.astimezone(table.zone) - timedelta(seconds=1)
        wall_before = (change + (before.utcoffset() or timedelta())).replace(tzinfo=None)
        wall_after = change.astimezone(table.zone).replace(tzinfo=None)
        low, high = sorted((wall_before, wall_after))
        named = next(CronSim(table.expression, low - timedelta(seconds=1)), None)
        if named is None or named >= high:
            continue
        day = (
            f"On {low.date().isoformat()} clocks in {table.zone.key} go from {wall_before:%H:%M} to {wall_after:%H:%M}"
        )
        if wall_after > wall_before:
            sentences.append(f"{day}: {named:%H:%M} does not exist, so it fires at {wall_after:%H:%M}.")
        else:
            sentences.append(f"{day}: {named:%H:%M} comes twice, and it fires the first time only.")
    return " ".join(sentences) or None


def _changes(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """The moments (UTC, to the second) at which the zone's offset changes between start and end."""
    low = start.astimezone(UTC).replace(microsecond=0)
    while low < end:
        high = low + timedelta(days=1)
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            left, right = low, high
            while right - left > timedelta(seconds=1):
                middle = left + timedelta(seconds=(right - left) // timedelta(seconds=2))
                if middle.astimezone(zone).utcoffset() == left.astimezone(zone).utcoffset():
                    left = middle
                else:
                    right = middle
            yield right
        low = high


@dataclass(frozen=True)
class FirePlan:
    """What to do with the fires that are due: which to run, which to record as left out (with the reason), and what is
    next.

    `omitted` counts older left-out fires that get no row of their own.
    """

    run: list[datetime] = field(default_factory=list)
    skipped: list[tuple[datetime, str]] = field(default_factory=list)
    omitted: int = 0
    next_fire_at: datetime | None = None


def plan_due(
    table: Timetable,
    due_at: datetime,
    now: datetime,
    missed: Missed,
    *,
    grace: timedelta,
    make_up: timedelta | None = None,
    max_runs: int = 10,
) -> FirePlan:
    """Plans the fires from `due_at` (the stored next fire) up to `now`.

    A fire at most `grace` late is on time and runs. Of the older ones, by `missed`: `skip` none run; `run_latest` the
    latest runs, unless one is on time; `run_all` the latest `max_runs` run; but none that is later than `make_up`. All
    others are recorded as left out.
    """
    due = [due_at, *_due(table, due_at, now)] if due_at <= now else []
    on_time = [fire for fire in due if now - fire <= grace]
    late = [fire for fire in due if now - fire > grace]
    fresh = late if make_up is None else [fire for fire in late if now - fire <= make_up]
    rerun: list[datetime] = []
    if missed == "run_all":
        rerun = fresh[-max_runs:]
    elif missed == "run_latest" and not on_time:
        rerun = fresh[-1:]
    left = late[: len(late) - len(rerun)]
    reason = _MISSED_REASONS["too-late" if late and not fresh and missed != "skip" else missed]
    return FirePlan(
        run=rerun + on_time,
        skipped=[(fire, reason) for fire in left[-_RECORDED:]],
        omitted=max(0, len(left) - _RECORDED),
        next_fire_at=table.next_after(max(now, due_at)) if due else due_at,
    )


_MISSED_REASONS: dict[str, str] = {
    "skip": "Missed while the schedule's clock stood still; the schedule's policy is to skip missed fires.",
    "run_latest": (
        "Missed while the schedule's clock stood still; the schedule's policy is to make up for the latest fire only."
    ),
    "too-late": "Missed while the schedule's clock stood still, for too long to make up for it now.",
    "run_all": "Missed while the schedule's clock stood still; more fires were missed than the policy makes up for.",
}


def _due(table: Timetable, after: datetime, now: datetime) -> list[datetime]:
    """Fires after `after` up to `now`; of very many only the latest."""
    kept: deque[datetime] = deque(maxlen=_MAX_DUE)
    for fire in table.after(max(after, now - timedelta(days=400))):
        if fire > now:
            break
        kept.append(fire)
    return list(kept)


OverlapChoice = Literal["run", "queue", "replace", "skip"]


def overlap_choice(
    policy: Overlap, active: int, waiting: int, *, max_parallel: int = 10
) -> tuple[OverlapChoice, str | None]:
    """What to do with a fire when `active` runs of the job go on, `waiting` of them only behind another: and why, if
    not run.
    """
    if active == 0:
        return "run", None
    if policy == "forbid":
        return "skip", "An earlier run of this job was still going on, and its schedule forbids overlap."
    if policy == "queue":
        if waiting:
            return "skip", "A run of this job was already waiting for an earlier one, and its schedule lets one wait."
        return "queue", "Waits for an earlier run of this job to end."
    if policy == "replace":
        return "replace", None
    if active >= max_parallel:
        return "skip", f"{active} runs of this job were going on, and at most {max_parallel} may at once."
    return "run", None
