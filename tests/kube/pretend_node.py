"""A node that is only an object: Ready, with room, and kept so by a lease. The scheduler binds pods to it; nothing runs there.

It confirms the end of pods that are to go, as a kubelet would.
"""

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from tests.kube.kubectl import Kubectl, KubectlRefused
from tests.waiting import eventually

LEASES = "kube-node-lease"
BEAT_S = 2.0
ROOM = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"}
SICK = ("MemoryPressure", "DiskPressure", "PIDPressure")


class PretendNode:
    """`with PretendNode(...)`: takes pods that bear its taint."""

    def __init__(
        self,
        kubectl: Kubectl,
        name: str,
        devices: Mapping[str, str],
        labels: Mapping[str, str],
        taint: Mapping[str, str],
    ) -> None:
        """`devices`: resource -> how many."""
        self.name = name
        self._kubectl = kubectl
        self._room = {**ROOM, **devices}
        self._labels, self._taint = dict(labels), dict(taint)
        self._stopping = threading.Event()
        self._beating = threading.Thread(target=self._beat, name=f"node {name}", daemon=True)

    def __enter__(self) -> Self:
        metadata = {"name": self.name, "labels": self._labels}
        # As kubelets join: the controllers take the taint "not ready" away when the conditions say so.
        spec = {"taints": [self._taint]}
        self._kubectl("create", "-f", "-", stdin=_json({"kind": "Node", "metadata": metadata, "spec": spec}))
        self._renew()
        conditions = [_condition("Ready", "True"), *(_condition(kind, "False") for kind in SICK)]
        status = {"capacity": self._room, "allocatable": self._room, "conditions": conditions}
        self._kubectl(
            "patch", "node", self.name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )
        self._beating.start()
        eventually(self._takes_pods, within=60, what=f"the node {self.name} without other taints than its own")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._beating.join()
        for namespace, pod in self._pods(ending=False):
            self._end(namespace, pod)
        self._kubectl("delete", "node", self.name, "--ignore-not-found")
        self._kubectl("delete", "lease", self.name, "-n", LEASES, "--ignore-not-found")

    def _takes_pods(self) -> bool:
        node = self._kubectl.get("node", self.name)
        return node is not None and [each["key"] for each in node["spec"].get("taints", [])] == [self._taint["key"]]

    def _beat(self) -> None:
        while not self._stopping.wait(BEAT_S):
            try:
                self._renew()
                for namespace, pod in self._pods(ending=True):
                    self._end(namespace, pod)
            except KubectlRefused as error:  # once more at the next beat; a test that needs it fails by its own words
                print(f"the node {self.name}: {error}")

    def _renew(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now}
        metadata = {"name": self.name, "namespace": LEASES}
        self._kubectl.apply(
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        )

    def _pods(self, *, ending: bool) -> list[tuple[str, str]]:
        """Namespace and name of those that are here, or of those of them that are to go."""
        said = self._kubectl("get", "pods", "-A", "--field-selector", f"spec.nodeName={self.name}", "-o", "json")
        found = [each["metadata"] for each in json.loads(said)["items"]]
        return [(each["namespace"], each["name"]) for each in found if "deletionTimestamp" in each or not ending]

    def _end(self, namespace: str, pod: str) -> None:
        self._kubectl("delete", "pod", pod, "-n", namespace, "--force", "--grace-period=0", "--ignore-not-found")


def _condition(kind: str, status: str) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "type": kind, "status": status, "reason": "Pretended", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now,
    }  # fmt: skip


def _json(node: Mapping[str, object]) -> str:
    return json.dumps({"apiVersion": "v1", **node})
