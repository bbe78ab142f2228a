"""When schedules fire: fields, zones, changes of clocks, missed fires and overlap."""

from datetime import UTC, datetime, timedelta

import pytest

from moorage.wire.jobs import Missed, Overlap, Schedule
from moorage_jobs.errors import ScheduleError
from moorage_jobs.schedule import ALIASES, overlap_choice, parse, plan_due, preview

GRACE = timedelta(seconds=60)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(cron: str, zone: str, after: str, count: int) -> list[str]:
    found = []
    for fire in parse(cron, zone).after(at(after)):
        found.append(fire.strftime("%d %H:%M"))
        if len(found) == count:
            break
    return found


def test_a_fixed_time_that_does_not_exist_fires_once_at_the_first_moment_after_the_gap() -> None:
    assert fires("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", 3) == ["28 01:30", "29 01:00", "30 00:30"]
    assert fires("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["29 01:00", "30 00:00"]


def test_a_fixed_time_that_comes_twice_fires_the_first_time_only() -> None:
    assert fires("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == ["25 00:30", "26 01:30"]
    assert fires("30 2 * * *", "Europe/Berlin", "2026-10-25T01:05", 1) == ["26 01:30"]


def test_a_starred_schedule_follows_elapsed_time_through_both_changes() -> None:
    assert fires("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15", 3) == ["29 00:30", "29 01:00", "29 01:30"]
    assert fires("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", 3) == ["25 00:00", "25 01:00", "25 02:00"]


def test_day_zero_is_sunday_and_two_day_fields_are_either_or() -> None:
    assert fires("0 0 * * 0", "UTC", "2026-11-20T00:00", 1) == ["22 00:00"]
    assert fires("0 0 25 * 0", "UTC", "2026-11-20T00:00", 2) == ["22 00:00", "25 00:00"]


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_are_understood(alias: str) -> None:
    assert parse(alias).next_after(at("2026-11-20T00:00")) is not None


@pytest.mark.parametrize(
    ("cron", "zone", "sentence"),
    [
        ("61 * * * *", "UTC", "the minute in '61"),
        ("* * * * 9", "UTC", "the day-of-week in"),
        ("0 0 30 2 *", "UTC", "must exist in the months named"),
        ("* * * *", "UTC", "has 4 fields instead of five"),
        ("0 * * * * *", "UTC", "has 6 fields instead of five"),
        ("", "UTC", "has 0 fields"),
        ("@reboot", "UTC", "no alias here"),
        ("TZ=UTC 0 6 * * *", "UTC", "in the field 'timezone'"),
        ("0 6 * * *", "Berlin", "Did you mean Europe/Berlin"),
        ("0 6 * * *", "../etc/passwd", "not a time zone"),
        ("0 6 * * *", "", "not a time zone"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_a_remedy(cron: str, zone: str, sentence: str) -> None:
    with pytest.raises(ScheduleError, match=sentence) as caught:
        parse(cron, zone)
    assert caught.value.field in {"cron", "timezone"}


def test_a_preview_says_it_in_words_with_offsets_and_warns_of_changes_of_clocks() -> None:
    shown = preview(Schedule(cron="30 2 * * *", timezone="Europe/Berlin"), at("2026-03-27T12:00"))
    assert shown.words == "At 02:30 every day"
    assert shown.next[:2] == ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00"]
    assert len(shown.next) == 5
    assert shown.warning is not None
    assert "2026-03-29" in shown.warning
    assert "02:30 does not exist, so it fires at 03:00" in shown.warning
    assert "2026-10-25" in shown.warning
    assert "02:30 comes twice" in shown.warning


@pytest.mark.parametrize("cron", ["0 6 * * *", "*/30 * * * *", "30 2 1 * *"])
def test_a_schedule_that_no_change_of_clocks_touches_has_no_warning(cron: str) -> None:
    assert preview(Schedule(cron=cron, timezone="Europe/Berlin"), at("2026-01-15T00:00")).warning is None


@pytest.mark.parametrize(
    ("missed", "ran", "left"),
    [("skip", [], 3), ("run_latest", ["08:00"], 2), ("run_all", ["06:00", "07:00", "08:00"], 0)],
)
def test_missed_fires_follow_the_policy(missed: Missed, ran: list[str], left: int) -> None:
    table = parse("0 * * * *")
    plan = plan_due(table, at("2026-11-20T06:00"), at("2026-11-20T08:30"), missed, grace=GRACE)
    assert [fire.strftime("%H:%M") for fire in plan.run] == ran
    assert len(plan.skipped) == left
    assert plan.next_fire_at == at("2026-11-20T09:00")


def test_a_fire_on_time_runs_whatever_the_policy_and_makes_up_for_the_latest() -> None:
    table = parse("0 * * * *")
    for missed in ("skip", "run_latest"):
        plan = plan_due(table, at("2026-11-20T06:00"), at("2026-11-20T08:00:01"), missed, grace=GRACE)
        assert plan.run == [at("2026-11-20T08:00")]
        assert len(plan.skipped) == 2


def test_many_missed_fires_are_bounded() -> None:
    plan = plan_due(
        parse("* * * * *"), at("2026-11-01T00:00"), at("2026-11-20T08:30:30"), "run_all", grace=timedelta(0), max_runs=3
    )
    assert [fire.strftime("%d %H:%M") for fire in plan.run] == ["20 08:28", "20 08:29", "20 08:30"]
    assert len(plan.skipped) == 20
    assert plan.omitted > 1000
    assert plan.next_fire_at == at("2026-11-20T08:31")


def test_nothing_due_changes_nothing() -> None:
    plan = plan_due(parse("0 * * * *"), at("2026-11-20T09:00"), at("2026-11-20T08:30"), "run_all", grace=GRACE)
    assert (plan.run, plan.skipped, plan.next_fire_at) == ([], [], at("2026-11-20T09:00"))


@pytest.mark.parametrize(
    ("policy", "active", "waiting", "choice"),
    [
        ("forbid", 0, 0, "run"),
        ("forbid", 1, 0, "skip"),
        ("queue", 1, 0, "queue"),
        ("queue", 2, 1, "skip"),
        ("allow", 3, 0, "run"),
        ("allow", 10, 0, "skip"),
        ("replace", 1, 0, "replace"),
    ],
)
def test_overlap_follows_the_policy_and_says_why_a_fire_is_left_out(
    policy: Overlap, active: int, waiting: int, choice: str
) -> None:
    chosen, reason = overlap_choice(policy, active, waiting)
    assert chosen == choice
    assert (reason is not None) == (choice in {"skip", "queue"})


@pytest.mark.parametrize("missed", ["run_latest", "run_all"])
def test_fires_that_are_too_old_are_not_made_up_for(missed: Missed) -> None:
    plan = plan_due(
        parse("0 6 * * *"),
        at("2026-11-20T06:00"),
        at("2026-11-20T09:00"),
        missed,
        grace=GRACE,
        make_up=timedelta(hours=1),
    )
    assert plan.run == []
    assert [reason for _, reason in plan.skipped] == [
        "Missed while the schedule's clock stood still, for too long to make up for it now."
    ]
