"""Why a pod does not run, in words that its owner understands: from its status, its events, or the refusal to make it. Pure.

No text of the scheduler or the kubelet reaches a person: who reads "taint" restarts what only had to wait. What is said
follows Kubernetes 1.36 and what earlier versions and containerd say in its place.
"""

from collections.abc import Sequence
from datetime import datetime

from moorage_spawners.launch.reasons.endings import ended
from moorage_spawners.launch.reasons.images import image
from moorage_spawners.launch.reasons.reading import oldest_first
from moorage_spawners.launch.reasons.reason import Reason
from moorage_spawners.launch.reasons.refusals import refused
from moorage_spawners.launch.reasons.scheduling import scheduling
from moorage_spawners.launch.reasons.starting import starting
from moorage_spawners.launch.reasons.volumes import volume
from moorage_spawners.launch.types import Object

__all__ = ["Reason", "explain", "refused"]


def explain(pod: Object, events: Sequence[Object], now: datetime) -> Reason | None:
    """The reason that counts now, or None when nothing is in the way. `events`: those about this pod, in any order."""
    ordered = oldest_first(pod, events)
    return (
        ended(pod, ordered)
        or scheduling(pod, ordered)
        or image(pod, ordered, now)
        or volume(pod, ordered)
        or starting(pod, ordered)
    )
