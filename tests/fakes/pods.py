"""Pods and events as Kubernetes shows them, written short."""

from typing import Any

from moorage_spawners.launch.labels import Ownership

UID = "6f1c"
WHOSE = Ownership(workload_id="nb-1", generation=1, kind="notebook", role="server", owner="Ada L.", project="tide")


def pod(
    state: dict[str, Any] | None = None,
    *,
    phase: str = "Pending",
    conditions: dict[str, dict[str, Any]] | None = None,
    spec: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    """One container in `state`; `conditions` by type; `container` and `status` add to what is said of it."""
    found: dict[str, Any] = {
        "phase": phase,
        "conditions": [{"type": kind, **each} for kind, each in (conditions or {}).items()],
        **status,
    }
    if state is not None:
        found["containerStatuses"] = [{"name": "server", "state": state, **(container or {})}]
    own = {
        "name": "nb-1-1", "namespace": "moorage-ada", "uid": UID, "resourceVersion": "7", "labels": WHOSE.labels(),
        "annotations": WHOSE.annotations(), "creationTimestamp": "2026-11-21T20:00:00Z", **(metadata or {}),
    }  # fmt: skip
    return {"metadata": own, "spec": spec if spec is not None else {"nodeName": "node-1"}, "status": found}


def event(reason: str, message: str, at: str = "2026-11-21T20:00:00Z", **more: Any) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "involvedObject": {"kind": "Pod", "uid": UID},
        **more,
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(exit_code: int, reason: str = "Error", message: str = "", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message, **more}}
