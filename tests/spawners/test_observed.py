"""A pod, seen as a process is."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from moorage_spawners.launch.errors import StaleViewError
from moorage_spawners.launch.observed import PodObserver, departed, observe
from moorage_spawners.launch.quantity import parse_quantity
from moorage_spawners.launch.watch import Watcher
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.pods import WHOSE, pod, terminated, waiting
from tests.spawners.watching import WITHIN, watching

NOW = datetime(2026, 11, 21, 20, 1, 15, tzinfo=UTC)
RUNS = {"running": {"startedAt": "2026-11-21T20:00:00Z"}}
DOOMED = {"deletionTimestamp": "2026-11-21T20:01:10Z"}


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (pod(), "starting"),
        (pod(waiting("ContainerCreating")), "starting"),
        (pod(RUNS, phase="Running"), "running"),
        (pod(RUNS, phase="Running", metadata={"deletionTimestamp": "2026-11-21T20:01:10Z"}), "running"),
        (pod(RUNS, phase="Running", metadata={"deletionTimestamp": "2026-11-21T20:00:10Z"}), "lost"),
        (pod(waiting("CrashLoopBackOff"), phase="Running"), "starting"),
        (pod(terminated(0, "Completed"), phase="Running"), "running"),  # its phase is about to follow
        (pod(terminated(0, "Completed"), phase="Succeeded"), "exited"),
        (pod(terminated(1), phase="Failed"), "exited"),
        (pod(phase="Failed", reason="Evicted"), "exited"),  # it never began
        (
            pod(RUNS, phase="Failed", conditions={"DisruptionTarget": {"status": "True", "reason": "DeletionByPodGC"}}),
            "lost",
        ),
        (pod(RUNS, phase="Unknown", reason="NodeLost"), "lost"),
    ],
)
def test_in_which_state_it_is(made: dict[str, Any], state: str) -> None:
    seen = observe(made, NOW)
    assert seen is not None
    assert (seen.state, seen.gone) == (state, state == "exited")


@pytest.mark.parametrize(
    ("end", "exit_code", "signal", "killed"),
    [
        (terminated(0, "Completed"), 0, None, 0),
        (terminated(3), 3, None, 0),
        (terminated(143), None, 15, 0),
        (terminated(137, "OOMKilled"), None, 9, 1),
        (terminated(255), 255, None, 0),
        (terminated(137, "ContainerStatusUnknown"), None, None, 0),
    ],
)
def test_how_it_ended(end: dict[str, Any], exit_code: int | None, signal: int | None, killed: int) -> None:
    times = {"startedAt": "2026-11-21T20:00:00Z", "finishedAt": "2026-11-21T20:01:00Z"}
    seen = observe(pod({"terminated": {**end["terminated"], **times}}, phase="Failed"), NOW)
    assert seen is not None
    assert (seen.exit_code, seen.signal, seen.out_of_memory) == (exit_code, signal, killed)
    assert (seen.started_at, seen.ended_at) == tuple(times.values())


def test_whose_it_is_comes_back_whole() -> None:
    seen = observe(pod(RUNS, phase="Running"), NOW)
    assert seen is not None
    assert (seen.workload_id, seen.generation, seen.role) == ("nb-1", 1, "server")
    assert seen.labels == {"kind": "notebook", "owner": "Ada L.", "project": "tide"}
    assert observe(pod(RUNS, phase="Running", metadata={"labels": {}}), NOW) is None


def test_one_that_waits_says_why() -> None:
    full = {
        "PodScheduled": {
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        }
    }
    seen = observe(pod(conditions=full, spec={}), NOW)
    assert seen is not None
    assert (seen.state, seen.reason) == ("starting", "pod.no_cpu")
    assert "No machine has enough free cores." in (seen.message or "")


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (pod(RUNS, phase="Running"), "pod.removed"),
        (pod(waiting("ErrImagePull", "not found")), "pod.removed"),
        (
            pod(
                RUNS,
                phase="Running",
                conditions={"DisruptionTarget": {"status": "True", "reason": "PreemptionByScheduler"}},
            ),
            "pod.preempted",
        ),
        (pod(terminated(137, "OOMKilled"), phase="Failed"), "pod.out_of_memory"),
        (pod(terminated(0, "Completed"), phase="Succeeded", metadata=DOOMED), "pod.removed"),
        (pod(terminated(143), phase="Failed", metadata=DOOMED), "pod.removed"),
        (pod(terminated(3), phase="Failed", metadata=DOOMED), "pod.crashed"),
        (
            pod(
                terminated(0, "Completed"),
                phase="Succeeded",
                metadata=DOOMED,
                conditions={"DisruptionTarget": {"status": "True", "reason": "EvictionByEvictionAPI"}},
            ),
            "pod.drained",
        ),
    ],
)
def test_what_is_said_of_one_whose_object_is_gone(last: dict[str, Any], reason: str) -> None:
    seen = departed(last, NOW)
    assert seen is not None
    assert (seen.gone, seen.reason) == (True, reason)
    assert seen.message


def put(kubernetes: FakeKubernetes, made: dict[str, Any], generation: int = 1) -> dict[str, Any]:
    """As the service makes it: named and labelled after its generation."""
    labels = {**WHOSE.labels(), "moorage.dev/generation": str(generation)}
    return kubernetes.put(f"nb-1-{generation}", metadata={"labels": labels}, spec=made["spec"], status=made["status"])


async def test_a_pod_is_followed_from_its_start_to_what_is_left_of_it() -> None:
    observers: list[PodObserver] = []
    async with watching(prepare=lambda watcher: observers.append(PodObserver(watcher, clock=lambda: NOW))) as scene:
        (observer,) = observers
        assert observer.observe("nb-1") == []

        def states() -> list[str]:
            return [each.state for each in observer.observe("nb-1")]

        for made, state in [
            (pod(), "starting"),
            (pod(RUNS, phase="Running"), "running"),
            (pod(terminated(1), phase="Failed"), "exited"),
        ]:
            put(scene.kubernetes, made)
            async with asyncio.timeout(WITHIN):
                await scene.watcher.until(partial(lambda wanted: True if states() == [wanted] else None, state))
        scene.kubernetes.remove("nb-1-1")
        await scene.shows()
        (left,) = observer.observe("nb-1")
        assert (left.state, left.exit_code) == ("exited", 1)
        assert observer.observe_all() == [left]
        observer.forget("nb-1")
        assert observer.observe_all() == []


async def test_an_older_generation_is_shown_until_it_is_gone() -> None:
    observers: list[PodObserver] = []
    async with watching(prepare=lambda watcher: observers.append(PodObserver(watcher, clock=lambda: NOW))) as scene:
        (observer,) = observers
        put(scene.kubernetes, pod(RUNS, phase="Running"), generation=1)
        put(scene.kubernetes, pod(), generation=2)
        await scene.shows("nb-1-1", "nb-1-2")
        assert [(each.generation, each.state) for each in observer.observe("nb-1")] == [(1, "running"), (2, "starting")]
        scene.kubernetes.remove("nb-1-1")
        await scene.shows("nb-1-2")
        assert [(each.generation, each.state) for each in observer.observe("nb-1")] == [(2, "starting")]


@pytest.mark.parametrize("changed", [{"moorage.dev/generation": "one"}, {"moorage.dev/workload": "nb-2"}])
async def test_one_whose_labels_somebody_changed_is_whose_it_was_until_it_is_gone(changed: dict[str, str]) -> None:
    observers: list[PodObserver] = []
    async with watching(prepare=lambda watcher: observers.append(PodObserver(watcher, clock=lambda: NOW))) as scene:
        (observer,) = observers
        runs = pod(RUNS, phase="Running")
        put(scene.kubernetes, runs)
        await scene.shows("nb-1-1")
        labels = {**WHOSE.labels(), "moorage.dev/generation": "1", **changed}
        scene.kubernetes.put("nb-1-1", metadata={"labels": labels}, spec=runs["spec"], status=runs["status"])
        put(scene.kubernetes, pod(), generation=2)
        await scene.shows("nb-1-1", "nb-1-2")
        assert [(each.generation, each.state) for each in observer.observe("nb-1")] == [(1, "running"), (2, "starting")]
        scene.kubernetes.remove("nb-1-1")
        await scene.shows("nb-1-2")
        assert [(each.generation, each.state) for each in observer.observe("nb-1")] == [(2, "starting")]
        assert observer.workloads() == ["nb-1"]


async def test_what_was_not_heard_of_for_long_is_no_ground_for_anything() -> None:
    observers: list[PodObserver] = []

    def prepare(watcher: Watcher) -> None:
        observers.append(PodObserver(watcher, stale_after_s=0.2, clock=lambda: NOW))

    async with watching(prepare=prepare) as scene:
        (observer,) = observers
        put(scene.kubernetes, pod(RUNS, phase="Running"))
        await scene.shows("nb-1-1")
        await scene.kubernetes.leave()

        def refused() -> bool:
            try:
                observer.observe("nb-1")
            except StaleViewError as error:
                return "not heard of" in str(error)
            return False

        await scene.until(refused)
        await scene.kubernetes.come_back()

        def believed() -> bool:
            scene.kubernetes.bookmark()
            return not refused()

        await scene.until(believed)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("1", 1),
        ("1500m", "1.5"),
        ("2Gi", 2 << 30),
        ("2G", 2 * 10**9),
        ("1073741824", 1 << 30),
        ("12e6", 12 * 10**6),
        ("0", 0),
        ("1k", 1000),
    ],
)
def test_amounts_are_read_as_the_server_writes_them(written: str, amount: str | int) -> None:
    assert parse_quantity(written) == Decimal(amount)


@pytest.mark.parametrize("written", ["", "GiB", "1 Gi", "-1", "1GiB", "१"])
def test_what_is_no_amount_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity(written)
