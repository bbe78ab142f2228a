"""What a person is told of a pod, checked for what nobody should have to read."""

from datetime import UTC, datetime
from typing import Any

from moorage_spawners.launch.reasons import explain

NOW = datetime(2026, 11, 21, 20, 1, 15, tzinfo=UTC)


def code(made: dict[str, Any], *events: dict[str, Any]) -> str | None:
    """The reason's code, or None."""
    reason = explain(made, events, NOW)
    if reason is None:
        return None
    for word in ("taint", "preempt", "node", "PersistentVolume", "affinity", "0/3", "pvc", "containerd"):
        assert word not in str(reason)  # nothing raw reaches a person
    assert reason.sentence.endswith(".")
    assert reason.remedy.endswith(".")
    return reason.code
