"""The machine of a notebook falls silent, and hub, service and proxy are on others, as it were.

On this one node the kubelet is stopped, so the node controller takes back that any pod there is ready. For the release's own pods that is
put right by hand. Where all machines are silent the controller suspects itself and takes nothing away, so there is a second one, which
says every second that it is well, and takes no pods.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.kube.node import Node
from tests.kube.place import NODE_NAME
from tests.kube.release import Release
from tests.waiting import eventually

OTHER = "node-2"
GRACE_S = 5  # a machine is silent after so long; 50 s as a rule
QUICK = (f"--node-monitor-grace-period={GRACE_S}s", "--node-monitor-period=1s")
READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
SILENT = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
LONG_S = 3600


@contextmanager
def silent(release: Release) -> Iterator[None]:
    """The cluster knows that the machine is silent, and the release's pods serve, when it begins; all is as before when it has ended."""
    node = release.node
    for pod in release.kubectl.list("pods", release.namespace):
        bear(node, pod, LONG_S)
    with _other_machine(node):
        node.stop("kubelet")
        try:
            node.restart_controllers(*QUICK)
            eventually(lambda: _readiness(node) == "Unknown", within=60, what="a silent node")
            eventually(lambda: _put_right(release), within=60, what="pods of the release that serve")
            yield
        finally:
            node.restart_controllers()
            node.start_kubelet()
            eventually(lambda: not _taints(node), within=60, what="a node without taints")


def bear(node: Node, pod: dict[str, Any], seconds: int) -> None:
    """The pod bears a silent machine for so long; 300 s as a rule."""
    borne = [
        {**each, "tolerationSeconds": seconds} if each.get("key") in SILENT else each
        for each in pod["spec"].get("tolerations", ())
    ]
    change = json.dumps({"spec": {"tolerations": borne}})
    node.kubectl("patch", "pod", pod["metadata"]["name"], "-n", pod["metadata"]["namespace"], "-p", change)


@contextmanager
def _other_machine(node: Node) -> Iterator[None]:
    over = threading.Event()
    node.kubectl.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": OTHER}, "spec": {"unschedulable": True}}
    )

    def live() -> None:
        while not over.is_set():
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            well = {"type": "Ready", "status": "True", "reason": "Pretended", "lastHeartbeatTime": now}
            _patch(node, "node", OTHER, {"status": {"conditions": [well]}})
            over.wait(1)

    thread = threading.Thread(target=live, name=OTHER)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        node.kubectl("delete", "node", OTHER)


def _put_right(release: Release) -> bool:
    """Whether all is right: the controller has marked the pods of the node, in one go, and those of the release are ready again."""
    pods = release.kubectl.list("pods", release.namespace)
    wrong = [each for each in pods if each["status"]["phase"] == "Running" and not _says_ready(each)]
    for each in wrong:
        _patch(release.node, "pod", each["metadata"]["name"], READY, release.namespace)
    said = release.kubectl("get", "pods", "-A", "-l", "moorage.dev/kind=notebook", "-o", "json")
    return not wrong and not any(_says_ready(each) for each in json.loads(said)["items"])


def _says_ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _readiness(node: Node) -> str:
    found = node.kubectl.get("node", NODE_NAME)
    conditions = found["status"]["conditions"] if found else []
    return next((str(each["status"]) for each in conditions if each["type"] == "Ready"), "")


def _taints(node: Node) -> list[object]:
    found = node.kubectl.get("node", NODE_NAME)
    return list((found or {}).get("spec", {}).get("taints") or ())


def _patch(node: Node, kind: str, name: str, change: object, namespace: str = "default") -> None:
    node.kubectl("patch", kind, name, "-n", namespace, "--subresource=status", "-p", json.dumps(change))
