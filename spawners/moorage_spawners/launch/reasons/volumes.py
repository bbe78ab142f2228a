"""A machine was found, and the storage does not come to it."""

from collections.abc import Sequence

from moorage_spawners.launch.reasons.reading import has, last, states, text
from moorage_spawners.launch.reasons.reason import Reason
from moorage_spawners.launch.types import Object

FAILED = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
LATER = ("SuccessfulAttachVolume", "Pulling", "Pulled", "Created", "Started")  # the storage had come by then
FULL = ("no space left on device", "disk quota exceeded", "errno 28", "errno 122")


def volume(pod: Object, events: Sequence[Object]) -> Reason | None:
    if any(True for _ in states(pod, "running")):
        return None
    event = last(events, *FAILED, *LATER)
    if event is None or event["reason"] not in FAILED:
        return None
    said = text(event)
    if has(said, "multi-attach"):
        return Reason(
            "volume.in_use",
            "Your home is still held by another machine.",
            "Stop what uses it there, or wait some minutes.",
            waits=True,
        )
    if has(said, *FULL):
        return full()
    if has(said, 'secret "', "configmap ") and has(said, "not found"):
        return Reason(
            "pod.secret_missing",
            "What it is to be given as secrets was not found.",
            "Start it again; if that does not help, tell an admin.",
        )
    if event["reason"] == "FailedAttachVolume":
        return Reason(
            "volume.attach_failed",
            "Its storage can't be brought to the machine.",
            "Wait a minute, it is tried again; or tell an admin.",
            waits=True,
        )
    return Reason(
        "volume.mount_failed",
        "Its storage can't be opened on the machine.",
        "Wait a minute, it is tried again; or tell an admin.",
        waits=True,
    )


def full() -> Reason:
    return Reason(
        "volume.full", "The storage of your home is full.", "Delete something in it, or ask an admin for more."
    )
