"""What pods and events say, found where Kubernetes writes it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from moorage_spawners.launch.types import Object

BEGINNING = datetime.min.replace(tzinfo=UTC)


def status(pod: Object) -> Object:
    found: Object = pod.get("status") or {}
    return found


def condition(pod: Object, kind: str) -> Object:
    """Empty when the pod has none of this kind."""
    return next((each for each in status(pod).get("conditions") or () if each["type"] == kind), {})


def states(pod: Object, name: str) -> Iterator[Any]:
    """Of every container that is in state `name` ("waiting", "running", "terminated") what is said of it; of helpers first."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in status(pod).get(kind) or ():
            if name in (each.get("state") or {}):
                yield each["state"][name]


def moment(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it, with an offset and maybe microseconds."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def when(event: Object) -> datetime:
    """When an event happened last. Old clients write three fields, new ones a fourth, and series a fifth."""
    series = event.get("series") or {}
    texts = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
    )
    return next((found for text in texts if (found := moment(text))), BEGINNING)


def oldest_first(pod: Object, events: Sequence[Object]) -> list[Object]:
    """Those about this very pod, not about an earlier one of its name."""
    uid = pod["metadata"].get("uid")
    own = [each for each in events if (each.get("involvedObject") or {}).get("uid") in (uid, None)]
    return sorted(own, key=when)


def last(events: Sequence[Object], *reasons: str) -> Object | None:
    return next((each for each in reversed(events) if each.get("reason") in reasons), None)


def text(event: Object | None) -> str:
    return str((event or {}).get("message") or "")


def has(said: str, *words: str) -> bool:
    lowered = said.lower()
    return any(word in lowered for word in words)
