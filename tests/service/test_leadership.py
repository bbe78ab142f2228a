"""Of several service processes one acts; the lease changes hands, and what an outdated one still wants is refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moorage_service.context import Context
from moorage_service.reconciler.fence import Fence, OutdatedError
from moorage_service.reconciler.leadership import NAME, Leadership
from moorage_service.store.tables import LeaseRow
from moorage_spawners.launch import Identity, ProcessSpec
from tests.fakes.clock import FakeClock
from tests.service.databases import each_database

Make = Callable[..., Leadership]


@pytest.fixture
def make(context: Context) -> Iterator[Make]:
    """Of one more process. `holder` stands for another machine's, of which nobody can tell whether it lives."""
    made: list[Leadership] = []

    def one(holder: str | None = None) -> Leadership:
        settings = context.settings
        leadership = Leadership(
            context.database, context.clock, context.wakeup, context.machine.root / "fence", settings.lease_s
        )
        if holder is not None:
            leadership._holder = holder
        leadership.start()
        made.append(leadership)
        return leadership

    yield one
    for leadership in made:
        leadership.stop()


@each_database
def test_one_process_holds_the_lease_and_the_other_gets_it_when_that_ends(make: Make) -> None:
    first, second = make(), make("elsewhere/1/1")
    assert (first.held(), second.held()) == (True, False)
    first.stop()
    assert second.renew()
    assert (first.held(), second.held()) == (False, True)
    assert second.number == first.number + 1


def test_a_lease_that_ran_out_is_taken_and_its_holder_is_refused(
    make: Make, context: Context, clock: FakeClock
) -> None:
    first = make("elsewhere/1/1")
    clock.advance(context.settings.lease_s + 1)
    second = make()
    assert second.held()
    with pytest.raises(OutdatedError, match="another service process acts in term 2"):
        first.require()
    assert not first.renew()
    with pytest.raises(OutdatedError, match="has run out"):
        first.require()
    second.require()


def test_nobody_waits_for_a_process_of_this_machine_that_is_dead(make: Make, context: Context) -> None:
    machine = make()._holder.split("/")[0]
    with context.database.begin() as session:
        session.get_one(LeaseRow, NAME).holder = f"{machine}/1/0"  # whoever has pid 1 started later than that
    assert make().held()


def test_a_store_that_was_restored_does_not_bring_back_an_old_term(make: Make, context: Context) -> None:
    Fence(context.machine.root / "fence").raise_to(41)
    leadership = make()
    assert leadership.number == 42
    leadership.require()


def test_nothing_is_started_or_ended_by_an_outdated_process(make: Make, context: Context, tmp_path: Path) -> None:
    first = make()
    outdated = replace(context)
    outdated.machine.guard = first.require
    Fence(context.machine.root / "fence").raise_to(first.number + 1)
    spec = ProcessSpec(
        workload_id="cl-1", generation=1, role="head", argv=("/bin/true",), env={}, cwd="/", size=None,
        identity=Identity(None, None, str(tmp_path)),
    )  # fmt: skip
    for act in (
        lambda: outdated.machine.start(spec),
        lambda: outdated.machine.stop("cl-1"),
        lambda: outdated.machine.forget("cl-1"),
    ):
        with pytest.raises(OutdatedError):
            act()
    assert outdated.machine.observe_all() == []


def test_who_started_no_lease_acts_for_itself(context: Context) -> None:
    assert context.leadership.held()
    context.leadership.require()
