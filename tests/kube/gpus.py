"""Pretend GPUs: scheduled, counted and refused like real ones; no device appears in a container.

A kubelet that restarts takes them away again.
"""

import json

from tests.kube.kubectl import Kubectl
from tests.kube.place import NODE_NAME

RESOURCE = "nvidia.com/gpu"
TYPE_LABEL = "nvidia.com/gpu.product"


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
