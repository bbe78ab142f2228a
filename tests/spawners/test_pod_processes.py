"""Pods for threads that keep workloads: what is seen, what is not known, and what is removed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from moorage_spawners.launch import LaunchError
from moorage_spawners.launch.errors import StaleViewError
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pod_processes import PodProcesses
from tests.fakes.kubernetes import FakeKubernetes, kubeconfig, serving

T = TypeVar("T")
WITHIN = 30.0
RUNNING = {
    "phase": "Running",
    "containerStatuses": [{"name": "server", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
}
FAILED = {"phase": "Failed", "containerStatuses": [{"name": "server", "state": {"terminated": {"exitCode": 3}}}]}


@dataclass
class Scene:
    kubernetes: FakeKubernetes
    processes: PodProcesses
    spaces: dict[str, str] = field(default_factory=dict)

    def put(self, workload_id: str, namespace: str = "one", status: dict[str, Any] = RUNNING) -> None:
        whose = Ownership(
            workload_id=workload_id, generation=1, kind="notebook", role="server", owner="us-1", project="starter"
        )
        metadata = {"labels": whose.labels(), "annotations": whose.annotations()}
        self.kubernetes.put(f"{workload_id}-1", namespace, metadata=metadata, status=status)
        self.spaces[workload_id] = namespace

    def unlabel(self, workload_id: str) -> None:
        """Somebody removes its labels: a watch by labels tells of it as of one that was removed."""
        name, namespace = f"{workload_id}-1", self.spaces[workload_id]
        before = next(each for each in self.kubernetes.objects() if each["metadata"]["name"] == name)
        after = self.kubernetes.put(name, namespace, metadata={**before["metadata"], "labels": {}})
        version = after["metadata"]["resourceVersion"]
        left = {**before, "metadata": {**before["metadata"], "resourceVersion": version}}
        self.kubernetes.say({"type": "DELETED", "object": left})

    async def states(self, workload_id: str) -> list[str]:
        return [seen.state for seen in await asyncio.to_thread(self.processes.observe, workload_id)]

    async def until(self, workload_id: str, *states: str) -> None:
        async with asyncio.timeout(WITHIN):
            while await self.states(workload_id) != list(states):  # noqa: ASYNC110 - another thread's view
                await asyncio.sleep(0.01)


def opened(
    spaces: dict[str, str], changed: Callable[[], None], namespaces: Sequence[str] = ("one", "two")
) -> PodProcesses:
    return PodProcesses("moorage.moorage", namespaces, PodSettings(), namespace_of=spaces.get, changed=changed)


@pytest.fixture
def changed() -> threading.Event:
    return threading.Event()


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: threading.Event) -> AsyncIterator[Scene]:
    kubernetes = FakeKubernetes()
    spaces: dict[str, str] = {}
    async with serving(kubernetes):
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, kubernetes.port))
        processes = await asyncio.to_thread(opened, spaces, changed.set)
        try:
            yield Scene(kubernetes, processes, spaces)
        finally:
            await asyncio.to_thread(processes.close)


async def test_a_pod_is_seen_to_run_and_to_end_as_it_does(scene: Scene, changed: threading.Event) -> None:
    assert await scene.states("nb-1") == []
    scene.put("nb-1")
    await scene.until("nb-1", "running")
    assert changed.is_set()
    scene.put("nb-1", status=FAILED)
    await scene.until("nb-1", "exited")
    (seen,) = await asyncio.to_thread(scene.processes.observe, "nb-1")
    assert (seen.exit_code, seen.reason) == (3, "pod.crashed")


async def test_a_workload_that_the_store_does_not_know_is_seen_all_the_same(scene: Scene) -> None:
    scene.put("nb-1", "two")
    scene.spaces.clear()
    await scene.until("nb-1", "running")
    assert [seen.workload_id for seen in await asyncio.to_thread(scene.processes.observe_all)] == ["nb-1"]


async def test_an_end_is_asked_for_where_it_runs_and_nowhere_else(scene: Scene) -> None:
    scene.put("nb-1", "two")
    scene.put("nb-2", "one")
    await scene.until("nb-1", "running")
    await asyncio.to_thread(scene.processes.stop, "nb-1", grace_s=7)
    assert [(name, options["gracePeriodSeconds"]) for name, options in scene.kubernetes.ended] == [("nb-1-1", 7)]


async def test_an_end_is_asked_for_though_somebody_changed_a_label(scene: Scene) -> None:
    scene.put("nb-1")
    await scene.until("nb-1", "running")
    before = scene.kubernetes.objects()[0]["metadata"]
    metadata = {**before, "labels": {**before["labels"], "moorage.dev/workload": "another"}}
    scene.kubernetes.put("nb-1-1", "one", metadata=metadata, status=RUNNING)
    await asyncio.to_thread(scene.processes.stop, "nb-1", grace_s=7)
    assert [name for name, _ in scene.kubernetes.ended] == ["nb-1-1"]


async def test_a_pod_that_loses_its_labels_runs_until_it_is_gone(scene: Scene, changed: threading.Event) -> None:
    scene.put("nb-1")
    await scene.until("nb-1", "running")
    scene.unlabel("nb-1")
    async with asyncio.timeout(WITHIN):
        while "lost labels of ours" not in str(scene.processes.heard_of()):  # noqa: ASYNC110 - another thread's view
            await asyncio.sleep(0.01)
    assert await scene.states("nb-1") == ["running"]
    await asyncio.to_thread(scene.processes.stop, "nb-1", grace_s=7)
    assert [name for name, _ in scene.kubernetes.ended] == ["nb-1-1"]
    changed.clear()
    scene.kubernetes.remove("nb-1-1", "one")
    await scene.until("nb-1", "exited")
    assert changed.is_set()


async def test_a_pod_that_is_removed_without_a_word_is_gone(scene: Scene) -> None:
    scene.put("nb-1")
    await scene.until("nb-1", "running")
    scene.kubernetes.remove("nb-1-1", "one")
    await scene.until("nb-1", "exited")


async def test_what_runs_is_not_forgotten(scene: Scene) -> None:
    scene.put("nb-1")
    await scene.until("nb-1", "running")
    await asyncio.to_thread(scene.processes.forget, "nb-1")
    assert scene.kubernetes.ended == []
    scene.put("nb-1", status=FAILED)
    await scene.until("nb-1", "exited")
    await asyncio.to_thread(scene.processes.forget, "nb-1")
    assert [name for name, _ in scene.kubernetes.ended] == ["nb-1-1"]


async def test_who_may_not_act_ends_nothing(scene: Scene) -> None:
    def refuse() -> None:
        raise LaunchError("It is another's to do.")

    scene.put("nb-1")
    await scene.until("nb-1", "running")
    scene.processes.guard = refuse
    with pytest.raises(LaunchError, match="another's"):
        await asyncio.to_thread(scene.processes.stop, "nb-1")
    assert scene.kubernetes.ended == []


async def test_a_cluster_that_refuses_us_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage_spawners.launch.pod_processes.PODS_LISTS_S", 0.5)
    kubernetes = FakeKubernetes(failing=403)
    async with serving(kubernetes):
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, kubernetes.port))
        with pytest.raises(LaunchError, match=r"403.*account and roles"):
            await asyncio.to_thread(opened, {}, lambda: None)


async def test_one_namespace_that_cannot_be_looked_into_hinders_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage_spawners.launch.pod_processes.PODS_LISTS_S", 0.5)
    kubernetes = FakeKubernetes(closed={"two"})
    spaces: dict[str, str] = {"nb-2": "two"}
    async with serving(kubernetes):
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, kubernetes.port))
        processes = await asyncio.to_thread(opened, spaces, lambda: None)
        try:
            scene = Scene(kubernetes, processes, spaces)
            scene.put("nb-1")
            await scene.until("nb-1", "running")
            with pytest.raises(StaleViewError):
                await scene.states("nb-2")
            assert [seen.workload_id for seen in await asyncio.to_thread(processes.observe_all)] == ["nb-1"]
        finally:
            await asyncio.to_thread(processes.close)


async def test_where_nobody_has_started_anything_yet_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kubernetes = FakeKubernetes()
    async with serving(kubernetes):
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, kubernetes.port))
        processes = await asyncio.to_thread(
            lambda: PodProcesses(
                "moorage.moorage", [], PodSettings(), namespace_of=lambda _id: None, changed=lambda: None
            )
        )
        assert await asyncio.to_thread(processes.observe_all) == []
        await asyncio.to_thread(processes.close)
    assert "not known yet" not in caplog.text


async def test_outside_of_a_cluster_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(LaunchError, match="no way to the cluster"):
        await asyncio.to_thread(opened, {}, lambda: None)
