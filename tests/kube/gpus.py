"""Pretend GPUs: scheduled, counted and refused like real ones; no device appears in a container.

A kubelet that restarts takes them away again. `TYPES` are those that the chart is told of; there are none of them until `pool`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.kube.kubectl import Kubectl
from tests.kube.place import NODE_NAME
from tests.kube.pretend_node import PretendNode

RESOURCE = "nvidia.com/gpu"
TYPE_LABEL = "nvidia.com/gpu.product"
TAINT = {"key": RESOURCE, "value": "present", "effect": "NoSchedule"}
BORNE = {"key": RESOURCE, "operator": "Exists", "effect": "NoSchedule"}
TYPES: dict[str, dict[str, Any]] = {
    "a100": {"nodeLabels": {TYPE_LABEL: "NVIDIA-A100"}, "tolerations": [BORNE]},
    "h200": {"nodeLabels": {TYPE_LABEL: "NVIDIA-H200"}, "tolerations": [BORNE]},
}
SECOND_NODE = "node-h200"


@contextmanager
def pool(kubectl: Kubectl) -> Iterator[None]:
    """One a100 at the real node, and one h200 at a second one, which is pretended whole: what is bound there never runs.

    It bears the host name of the real one, by which volumes are bound: as if homes could be reached from both.
    """
    pretend(kubectl, 1, "NVIDIA-A100")
    labels = {TYPE_LABEL: "NVIDIA-H200", "kubernetes.io/hostname": NODE_NAME}
    try:
        with PretendNode(kubectl, SECOND_NODE, {RESOURCE: "1"}, labels, TAINT):
            yield
    finally:
        remove(kubectl)


def pretend(kubectl: Kubectl, count: int, product: str) -> None:
    """The node says it has `count` GPUs of this type."""
    pointer = f"/status/capacity/{RESOURCE.replace('/', '~1')}"
    kubectl("label", "node", NODE_NAME, "--overwrite", f"{TYPE_LABEL}={product}")
    _patch(kubectl, {"op": "add", "path": pointer, "value": str(count)})


def remove(kubectl: Kubectl) -> None:
    """None if there are none."""
    kubectl("label", "node", NODE_NAME, f"{TYPE_LABEL}-")
    node = kubectl.get("node", NODE_NAME)
    for where in ("capacity", "allocatable"):
        if node and RESOURCE in node["status"][where]:
            _patch(kubectl, {"op": "remove", "path": f"/status/{where}/{RESOURCE.replace('/', '~1')}"})


def _patch(kubectl: Kubectl, operation: dict[str, str]) -> None:
    kubectl("patch", "node", NODE_NAME, "--subresource=status", "--type=json", "-p", json.dumps([operation]))
