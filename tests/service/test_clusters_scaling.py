"""The scale rule: grows at once, shrinks by what was idle, stays inside what was admitted, replaces what was lost."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from moorage.wire import AgentReport, ClusterSpec, Size, WorkerReport
from moorage_service.clusters import scaling
from moorage_service.clusters.scaling import Fleet

SPEC = ClusterSpec(engine="ray", min_workers=1, max_workers=4, worker=Size(cpu=1, memory=1 << 30))
NOW = 1_000_000.0
IDLE_S = 20.0


def report(*workers: WorkerReport, wanted: int = 0) -> AgentReport:
    return AgentReport(generation=1, ready=True, versions={"ray": "2.60.0"}, workers=list(workers), wanted=wanted)


def idle(name: str, seconds: float) -> WorkerReport:
    return WorkerReport(name=name, busy=False, idle_s=seconds)


def busy(name: str) -> WorkerReport:
    return WorkerReport(name=name, busy=True)


def fleet_of(count: int, **changes: object) -> Fleet:
    fleet = scaling.fill(Fleet(target=count), replace(SPEC, max_workers=max(4, count)), [], NOW)
    return replace(fleet, **changes)  # type: ignore[arg-type]


def test_grows_to_what_the_work_could_use_but_never_beyond_the_maximum() -> None:
    grown = scaling.rescale(fleet_of(1), SPEC, report(busy("worker-1"), wanted=9), idle_s=IDLE_S)
    assert grown.target == 4
    assert scaling.fill(grown, SPEC, [], NOW).workers == ("worker-1", "worker-2", "worker-3", "worker-4")


def test_shrinks_by_the_longest_idle_down_to_the_minimum() -> None:
    seen = report(idle("worker-1", 30), idle("worker-2", 50), idle("worker-3", 40))
    shrunk = scaling.rescale(fleet_of(3), SPEC, seen, idle_s=IDLE_S)
    assert (shrunk.target, shrunk.workers, set(shrunk.retiring)) == (1, ("worker-1",), {"worker-2", "worker-3"})
    assert scaling.orders(shrunk, seen) == ["worker-2", "worker-3"]


def test_nothing_shrinks_that_was_idle_for_a_moment_only_or_is_busy() -> None:
    seen = report(idle("worker-1", 5), busy("worker-2"), idle("worker-3", 19))
    assert scaling.rescale(fleet_of(3), SPEC, seen, idle_s=IDLE_S) == fleet_of(3)


def test_an_engine_that_did_not_answer_changes_nothing() -> None:
    silent = AgentReport(generation=1, ready=False, wanted=7)
    assert scaling.rescale(fleet_of(2), SPEC, silent, idle_s=IDLE_S) == fleet_of(2)


def test_a_retiring_worker_that_got_work_stays() -> None:
    shrunk = scaling.rescale(fleet_of(2), SPEC, report(idle("worker-1", 60), idle("worker-2", 90)), idle_s=IDLE_S)
    assert shrunk.retiring == ("worker-2",)
    back = scaling.rescale(shrunk, SPEC, report(busy("worker-1"), busy("worker-2"), wanted=2), idle_s=IDLE_S)
    assert (back.target, set(back.workers), back.retiring) == (2, {"worker-1", "worker-2"}, ())


def test_names_are_never_used_twice() -> None:
    fleet = scaling.lose(fleet_of(2), ["worker-2"], NOW)
    again = scaling.fill(scaling.clear(fleet, ["worker-2"]), SPEC, [], NOW)
    assert again.workers == ("worker-1", "worker-3")


def test_a_lost_worker_is_replaced_at_once_then_later_and_later() -> None:
    fleet = scaling.lose(fleet_of(1), ["worker-1"], NOW)
    assert scaling.next_attempt(fleet, NOW) == NOW
    pauses = []
    for _ in range(4):
        fleet = scaling.fill(fleet, SPEC, [], scaling.next_attempt(fleet, NOW))
        fleet = scaling.lose(fleet, fleet.workers, NOW)
        pauses.append(scaling.next_attempt(fleet, NOW) - NOW)
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0] > 0
    assert scaling.fill(fleet, SPEC, [], NOW).workers == ()


def test_losses_in_a_row_are_hopeless_and_old_ones_are_forgotten() -> None:
    fleet = fleet_of(1, failures=tuple(NOW + each for each in range(scaling.GIVE_UP_AFTER)))
    assert scaling.hopeless(fleet, NOW + 10)
    assert not scaling.hopeless(fleet, NOW + scaling.FAILURES_KEPT_S + 10)


def test_each_worker_has_gpus_of_its_own_until_it_is_gone() -> None:
    spec = replace(SPEC, worker=Size(cpu=1, memory=1 << 30, gpu=2))
    devices = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
    fleet = scaling.fill(Fleet(target=2), spec, devices, NOW)
    assert fleet.gpus == {"worker-1": ("GPU-a", "GPU-b"), "worker-2": ("GPU-c", "GPU-d")}
    lost = scaling.lose(fleet, ["worker-1"], NOW)
    assert scaling.fill(lost, spec, devices, NOW).workers == ("worker-2",)
    assert scaling.fill(scaling.clear(lost, ["worker-1"]), spec, devices, NOW).gpus["worker-3"] == ("GPU-a", "GPU-b")


def test_of_many_workers_that_are_gone_the_latest_leave_their_logs() -> None:
    gone = ["agent", *(f"worker-{number}" for number in range(1, 14))]
    assert scaling.forgettable(gone) == ["worker-1", "worker-2", "worker-3"]
    assert scaling.forgettable(["head", "worker-1"]) == []


def test_a_fleet_survives_the_store() -> None:
    fleet = fleet_of(2, retiring=("worker-9",), failures=(NOW,), gpus={"worker-1": ("GPU-a",)})
    assert Fleet.from_store(fleet.target, fleet.to_store()) == fleet


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50), st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=8), st.integers(0, 2)
        ),
        max_size=20,
    )
)
def test_whatever_is_reported_the_fleet_stays_inside_its_bounds(
    rounds: list[tuple[int, list[tuple[bool, float]], int]],
) -> None:
    fleet, now = Fleet(target=SPEC.min_workers), NOW
    for wanted, states, losses in rounds:
        now += 1
        fleet = scaling.fill(fleet, SPEC, [], now)
        names = [*fleet.workers, *fleet.retiring]
        workers = [
            WorkerReport(name=name, busy=is_busy, idle_s=0 if is_busy else seconds)
            for name, (is_busy, seconds) in zip(names, states, strict=False)
        ]
        fleet = scaling.rescale(fleet, SPEC, report(*workers, wanted=wanted), idle_s=IDLE_S)
        gone = fleet.retiring[:losses]
        fleet = scaling.clear(fleet, gone)
        assert SPEC.min_workers <= fleet.target <= SPEC.max_workers
        assert len(fleet.workers) + len(fleet.retiring) <= SPEC.max_workers
        assert not set(fleet.workers) & set(fleet.retiring)
