"""Of several service processes one acts; the lease changes hands, and what an outdated one still wants is refused."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

    def one(holder: str | None = None, first: Callable[[], None] | None = None) -> Leadership:
        settings = context.settings
        leadership = Leadership(
            context.database, context.clock, context.wakeup, context.machine.root / "fence", settings.lease_s
        )
        if holder is not None:
            leadership._holder = holder
        if first is not None:
            leadership.begin_with(first)
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


def test_each_term_begins_once_and_nobody_acts_before(make: Make, context: Context, clock: FakeClock) -> None:
    begun: list[bool] = []
    first = make("elsewhere/1/1")
    second: Leadership = make(first=lambda: begun.append(second.held()))
    assert (second.acts(), begun) == (False, [])
    for term in (1, 2):
        clock.advance(context.settings.lease_s + 1)
        assert second.renew()
        assert (second.acts(), second.acts(), begun) == (True, True, [True] * term)
    first.stop()


def test_who_can_not_begin_its_term_does_not_act(make: Make) -> None:
    def fail() -> None:
        raise RuntimeError("The store is away.")

    leadership = make(first=fail)
    assert (leadership.held(), leadership.acts()) == (True, False)
    with pytest.raises(RuntimeError, match="away"):
        leadership.begin()  # at the service's start it is said at once


def test_while_a_term_begins_no_other_thread_acts_or_waits(make: Make) -> None:
    begins, go_on = threading.Event(), threading.Event()

    def first() -> None:
        begins.set()
        assert go_on.wait(20)

    leadership = make(first=first)
    with ThreadPoolExecutor() as threads:
        one = threads.submit(leadership.acts)
        assert begins.wait(20)
        assert not leadership.acts()
        go_on.set()
        assert one.result(20)
    assert leadership.acts()


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
