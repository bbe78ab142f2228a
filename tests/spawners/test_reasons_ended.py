"""What ended a pod, or kept it from being made."""

from typing import Any

import pytest

from moorage_spawners.launch.reasons import explain, refused
from tests.fakes.pods import event, pod, terminated, waiting
from tests.spawners.told import NOW

RUNS = {"running": {"startedAt": "2026-11-21T20:00:00Z"}}


def disrupted(reason: str) -> dict[str, Any]:
    return {"DisruptionTarget": {"status": "True", "reason": reason, "message": ""}}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (pod(terminated(137, "OOMKilled"), phase="Failed"), "pod.out_of_memory"),
        (
            pod(terminated(128, "StartError", 'exec: "x": executable file not found in $PATH'), phase="Failed"),
            "pod.program_missing",
        ),
        (pod(terminated(1, message="OSError: [Errno 28] No space left on device"), phase="Failed"), "volume.full"),
        (pod(terminated(1, message="Traceback\nValueError: no\n"), phase="Failed"), "pod.crashed"),
        (pod(terminated(0, "Completed"), phase="Succeeded"), None),
        (pod(RUNS, phase="Running"), None),
        (
            pod(
                phase="Failed",
                reason="Evicted",
                message="The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ",
            ),
            "pod.evicted",
        ),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage. "),
            "pod.evicted",
        ),
        (
            pod(phase="Failed", reason="Evicted", message='Usage of EmptyDir volume "tmp" exceeds the limit "8Gi". '),
            "pod.scratch_full",
        ),
        (
            pod(
                phase="Failed",
                reason="Evicted",
                message="Pod ephemeral local storage usage exceeds the total limit of containers 8Gi. ",
            ),
            "pod.scratch_full",
        ),
        (pod(RUNS, phase="Running", conditions=disrupted("PreemptionByScheduler")), "pod.preempted"),
        (
            pod(
                terminated(143), phase="Failed", reason="Preempting", message="Preempted in order to admit critical pod"
            ),
            "pod.preempted",
        ),
        (pod(RUNS, phase="Running", conditions=disrupted("DeletionByTaintManager")), "pod.node_lost"),
        (pod(RUNS, phase="Failed", conditions=disrupted("DeletionByPodGC")), "pod.node_lost"),
        (
            pod(
                RUNS,
                phase="Unknown",
                reason="NodeLost",
                message="Node node-1 which was running pod nb-1-1 is unresponsive",
            ),
            "pod.node_lost",
        ),
        (pod(RUNS, phase="Running", conditions=disrupted("EvictionByEvictionAPI")), "pod.drained"),
        (
            pod(
                terminated(143),
                phase="Failed",
                reason="Terminated",
                message="Pod was terminated in response to imminent node shutdown.",
            ),
            "pod.node_shutdown",
        ),
        (
            pod(
                phase="Failed",
                reason="DeadlineExceeded",
                message="Pod was active on the node longer than the specified deadline",
            ),
            "pod.deadline",
        ),
        (
            pod(phase="Failed", reason="OutOfcpu", message="Pod was rejected: Node didn't have enough resource: cpu"),
            "pod.rejected",
        ),
        (
            pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to no devices"),
            "pod.rejected",
        ),
        (pod(phase="Failed"), "pod.failed"),
        (
            pod(
                waiting("CrashLoopBackOff", "back-off 10s restarting failed container=ray-worker"),
                phase="Running",
                container={"lastState": terminated(137, "OOMKilled")},
            ),
            "pod.out_of_memory",
        ),
    ],
)
def test_what_ended_it(made: dict[str, Any], expected: str | None) -> None:
    reason = explain(made, [], NOW)
    assert (reason.code if reason else None) == expected


@pytest.mark.parametrize(
    ("exit_code", "log", "sentence"),
    [
        (
            1,
            "Traceback (most recent call last):\n  ...\nValueError: no such kernel\n\n",
            "with exit status 1. It says: ValueError: no such kernel",
        ),
        (139, "", "It ended by signal 11."),
        (3, "x" * 4000, "It says: " + "x" * 300),
    ],
)
def test_a_crash_is_told_with_its_last_words(exit_code: int, log: str, sentence: str) -> None:
    reason = explain(pod(terminated(exit_code, message=log), phase="Failed"), [], NOW)
    assert reason is not None
    assert reason.sentence.endswith(sentence)


def test_one_that_never_answered_is_told_so() -> None:
    killed = event("Killing", "Container server failed startup probe, will be restarted")
    reason = explain(pod(terminated(137), phase="Failed"), [killed], NOW)
    assert reason is not None
    assert reason.code == "pod.never_answered"


def readiness(pods: str, containers: str) -> dict[str, Any]:
    return {"Ready": {"status": pods}, "ContainersReady": {"status": containers}}


def test_a_machine_that_fell_silent_is_told_while_it_may_come_back() -> None:
    """The node controller takes back what the machine said of the pod, and not what it said of its containers."""
    reason = explain(pod(RUNS, phase="Running", conditions=readiness("False", "True")), [], NOW)
    assert reason is not None
    assert (reason.code, reason.waits) == ("pod.node_silent", True)
    silent_before = [event("NodeNotReady", "Node is not ready")]
    for said in (readiness("True", "True"), readiness("False", "False")):  # back; and back, with a server that does not answer
        assert explain(pod(RUNS, phase="Running", conditions=said), silent_before, NOW) is None


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (
            403,
            'pods "nb-1-1" is forbidden: exceeded quota: moorage, requested: pods=1, used: pods=20, limited: pods=20',
            "pod.quota",
        ),
        (
            403,
            'pods "nb-1-1" is forbidden: failed quota: moorage: must specify requests.cpu for: server',
            "pod.quota_unknown",
        ),
        (403, 'pods "nb-1-1" is forbidden: status unknown for quota: moorage, resources: pods', "pod.quota_unknown"),
        (
            403,
            'pods "nb-1-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod or container "server")',
            "pod.insecure",
        ),
        (
            403,
            'pods "nb-1-1" is forbidden: maximum memory usage per Container is 8Gi, but limit is 16Gi',
            "pod.size_refused",
        ),
        (
            403,
            'pods "nb-1-1" is forbidden: unable to create new content in namespace moorage-ada because it is being terminated',
            "pod.namespace_ending",
        ),
        (404, 'namespaces "moorage-ada" not found', "pod.namespace_ending"),
        (403, 'pods "nb-1-1" is forbidden: no PriorityClass with name interactive was found', "pod.misconfigured"),
        (400, 'admission webhook "policy.example.org" denied the request: no', "pod.policy"),
        (
            403,
            'pods is forbidden: User "system:serviceaccount:moorage:tide-hub" cannot create resource "pods"',
            "pod.not_permitted",
        ),
        (429, "Too many requests, please try again later.", "pod.cluster_busy"),
        (503, "etcdserver: leader changed", "pod.cluster_busy"),
        (422, 'Pod "nb-1-1" is invalid: spec.containers[0].image: Required value', "pod.refused"),
    ],
)
def test_why_it_was_not_taken(status: int, message: str, expected: str) -> None:
    reason = refused(status, message)
    assert reason.code == expected
    assert "pods" not in str(reason)
