"""Why no machine is found for a pod, by what the scheduler of Kubernetes 1.36 says, and those before it."""

from typing import Any

import pytest

from moorage_spawners.launch.labels import GPU_TYPE
from moorage_spawners.launch.reasons import explain
from tests.fakes.pods import WHOSE, event, pod
from tests.spawners.told import NOW, code

GPU = {
    "nodeSelector": {"nvidia.com/gpu.product": "A100"},
    "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}],
}
RESTRICTIONS = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod."
)
NO_VICTIMS = " preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
NOT_HELPFUL = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("said", "spec", "expected"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu." + NO_VICTIMS, {}, "pod.no_cpu"),
        ("0/3 nodes are available: 1 Insufficient memory, 3 Insufficient cpu." + NO_VICTIMS, {}, "pod.no_memory"),
        ("0/3 nodes are available: 3 Insufficient ephemeral-storage." + NO_VICTIMS, {}, "pod.no_disk"),
        ("0/3 nodes are available: 3 Too many pods." + NO_VICTIMS, {}, "pod.no_place"),
        (
            "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector."
            + NO_VICTIMS,
            GPU,
            "pod.no_gpu",
        ),
        ("0/3 nodes are available: 2 Insufficient cpu, 3 Insufficient nvidia.com/gpu.", GPU, "pod.no_gpu"),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector." + NOT_HELPFUL,
            GPU,
            "pod.no_gpu_type",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector." + NOT_HELPFUL,
            {},
            "pod.no_matching_node",
        ),
        ("0/3 nodes are available: 3 node(s) had untolerated taint(s)." + NOT_HELPFUL, {}, "pod.node_reserved"),
        (
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector.",
            GPU,
            "pod.node_reserved",
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }. preemption: 0/1 nodes are available: 1 No.",
            {},
            "pod.node_reserved",
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }.",
            {},
            "pod.nodes_silent",
        ),
        (
            "0/1 nodes are available: 1 node(s) had taint {node.kubernetes.io/not-ready: }, that the pod didn't tolerate.",
            {},
            "pod.nodes_silent",
        ),
        ("0/3 nodes are available: 3 node(s) were unschedulable." + NOT_HELPFUL, {}, "pod.node_closed"),
        ("0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.", {}, "pod.no_cpu"),
        (
            "0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity." + NOT_HELPFUL,
            {},
            "volume.elsewhere",
        ),
        ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", {}, "volume.elsewhere"),
        (
            "0/3 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, 2 Insufficient memory.",
            {},
            "pod.no_memory",
        ),
        (
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims." + NOT_HELPFUL,
            {},
            "volume.pending",
        ),
        ("0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.", {}, "volume.pending"),
        ("0/3 nodes are available: 3 node(s) exceed max volume count.", {}, "volume.pending"),
        (
            '0/3 nodes are available: persistentvolumeclaim "home" not found. preemption: 0/3 nodes are available: 3 x.',
            {},
            "volume.missing",
        ),
        (
            '0/3 nodes are available: persistentvolumeclaim "home" bound to non-existent persistentvolume "pv-1".',
            {},
            "volume.missing",
        ),
        ('0/3 nodes are available: persistentvolumeclaim "home" is being deleted.', {}, "volume.ending"),
        (
            f"0/3 nodes are available: 3 {RESTRICTIONS}",
            {},
            "volume.in_use",
        ),
        ("no nodes available to schedule pods", {}, "pod.unschedulable"),
    ],
)
@pytest.mark.parametrize("told", ["by the condition", "by an event"])
def test_what_the_scheduler_says(said: str, spec: dict[str, Any], expected: str, told: str) -> None:
    condition = {"status": "False", "reason": "Unschedulable", "message": said if told == "by the condition" else ""}
    events = [] if told == "by the condition" else [event("FailedScheduling", said)]
    assert code(pod(conditions={"PodScheduled": condition}, spec=spec), *events) == expected


@pytest.mark.parametrize(
    ("said", "count", "sentence"),
    [
        ("1 Insufficient nvidia.com/gpu, 1 Insufficient memory", 1, "No machine has a free GPU of type a100."),
        ("1 Insufficient nvidia.com/gpu", 2, "No machine has 2 free GPUs of type a100."),
        ("2 node(s) didn't match Pod's node affinity/selector", 1, "No machine has a GPU of type a100."),
    ],
)
def test_a_type_of_gpu_is_told_by_the_name_that_people_ask_by(said: str, count: int, sentence: str) -> None:
    waiting = {"PodScheduled": {"status": "False", "reason": "Unschedulable", "message": f"0/2 nodes: {said}."}}
    spec = {**GPU, "containers": [{"resources": {"limits": {"nvidia.com/gpu": str(count)}}}]}
    typed = pod(conditions=waiting, spec=spec, metadata={"annotations": {**WHOSE.annotations(), GPU_TYPE: "a100"}})
    reason = explain(typed, [], NOW)
    assert reason is not None
    assert reason.sentence == sentence
    untyped = explain(pod(conditions=waiting, spec=spec), [], NOW)
    assert untyped is not None
    assert "of type" not in untyped.sentence


def test_a_machine_of_the_type_that_is_being_started_is_told() -> None:
    """A pool may be empty until somebody asks."""
    none = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    waiting = {"PodScheduled": {"status": "False", "reason": "Unschedulable", "message": none}}
    up = event("TriggeredScaleUp", "pod triggered scale-up: [{gpus 0->1 (max: 3)}]")
    assert code(pod(conditions=waiting, spec=GPU), up) == "pod.machine_starts"


def test_a_machine_that_is_being_started_is_told() -> None:
    full = {
        "PodScheduled": {
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu.",
        }
    }
    up = event("TriggeredScaleUp", "pod triggered scale-up: [{group-1 1->2 (max: 3)}]")
    no = event(
        "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", at="2026-11-21T20:00:30Z"
    )
    assert code(pod(conditions=full, spec={}), up) == "pod.machine_starts"
    reason = explain(pod(conditions=full, spec={}), [no, up], NOW)
    assert reason is not None
    assert (reason.code, "can be added" in reason.sentence) == ("pod.no_cpu", True)
