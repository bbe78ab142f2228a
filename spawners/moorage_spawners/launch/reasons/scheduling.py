"""No machine was found for it: what the scheduler says, and the autoscaler where there is one.

A machine is counted with the first rule that it fails, in this order: closed, reserved, of another kind, no room, volume. So
whatever comes later in that order was nearer to a start, and is what is worth telling.
"""

import re
from collections.abc import Sequence

from moorage_spawners.launch.labels import GPU_TYPE
from moorage_spawners.launch.reasons.reading import condition, has, last, text
from moorage_spawners.launch.reasons.reason import ADMIN, WAIT, Reason
from moorage_spawners.launch.types import Object

_SHORT = re.compile(r"([0-9]+) Insufficient ([^\s,]+?)(?=[,.]?(?:\s|$))")
_RESOURCES = {"memory": "memory", "cpu": "cores", "ephemeral-storage": "disk space"}
ELSEWHERE = ("volume node affinity conflict", "persistentvolume's node affinity", "no available volume zone")
IN_USE = ("in-use by another pod", "no available disk")
NO_VOLUME = ("persistentvolumeclaim", "non-existent pv", "non-existent persistentvolume")


def scheduling(pod: Object, events: Sequence[Object]) -> Reason | None:
    """None once a machine was found, and while the scheduler has said nothing."""
    found = condition(pod, "PodScheduled")
    if (pod.get("spec") or {}).get("nodeName") or found.get("status") == "True":
        return None
    if found.get("reason") == "SchedulingGated":
        return Reason(
            "pod.held", "It is held back until another system lets it through.", "Wait, or tell an admin.", waits=True
        )
    said = text(found) or text(last(events, "FailedScheduling"))
    if not said:
        return None
    said = said.partition(" preemption:")[0]  # what might be ended for it: nothing that its owner can do anything about
    return _growing(_volumes(said) or _room(pod, said) or _kind(pod, said), events)


def _growing(reason: Reason, events: Sequence[Object]) -> Reason:
    """What the autoscaler makes of it."""
    grows = last(events, "TriggeredScaleUp", "NotTriggerScaleUp")
    if grows is None:
        return reason
    if grows["reason"] == "TriggeredScaleUp":
        return Reason(
            "pod.machine_starts",
            "No machine is free, so another one is being started for it.",
            "Wait some minutes.",
            waits=True,
        )
    if not reason.waits:
        return reason
    sentence = f"{reason.sentence} No machine can be added."
    return Reason(reason.code, sentence, reason.remedy, waits=True)


def _volumes(said: str) -> Reason | None:
    """What stands in the way of every machine, whatever room it has."""
    if has(said, "unbound immediate persistentvolumeclaims"):
        return Reason(
            "volume.pending",
            "Its storage is not there yet.",
            "Wait a minute; if that does not help, tell an admin.",
            waits=True,
        )
    if has(said, "is being deleted") and has(said, *NO_VOLUME):
        return Reason("volume.ending", "Its storage is being deleted.", ADMIN)
    if has(said, *NO_VOLUME) and has(said, "not found", "non-existent"):
        return Reason("volume.missing", "The storage of your home was not found.", ADMIN)
    return None


def _room(pod: Object, said: str) -> Reason | None:
    """Machines of the right kind are full; or the last rule, where its storage is."""
    short = {resource: int(count) for count, resource in _SHORT.findall(said)}
    gpus = [resource for resource in short if resource not in _RESOURCES]
    if gpus:
        return Reason("pod.no_gpu", f"No machine has {_free_gpus(pod, gpus)}.", WAIT, waits=True)
    missing = [word for resource, word in _RESOURCES.items() if resource in short]
    if missing:
        codes = {"memory": "pod.no_memory", "cores": "pod.no_cpu", "disk space": "pod.no_disk"}
        return Reason(codes[missing[0]], f"No machine has enough free {' and '.join(missing)}.", WAIT, waits=True)
    if has(said, "too many pods"):
        return Reason("pod.no_place", "The machines run as many programs as they may.", WAIT, waits=True)
    if has(said, *IN_USE):
        return Reason(
            "volume.in_use",
            "Your home is in use by another of your programs.",
            "Stop that one, or wait for its end.",
            waits=True,
        )
    if has(said, *ELSEWHERE):
        return Reason(
            "volume.elsewhere",
            "Your home lies where no machine of that kind can reach it.",
            "Choose another kind of machine, or tell an admin.",
        )
    if has(said, "available persistent volumes to bind", "enough free storage", "max volume count"):
        return Reason(
            "volume.pending",
            "No machine can take its storage just now.",
            "Wait a minute; if that does not help, tell an admin.",
            waits=True,
        )
    return None


def _kind(pod: Object, said: str) -> Reason:
    """No machine is of the right kind, or those that are take nothing."""
    wants_gpu = bool((pod.get("spec") or {}).get("nodeSelector")) and has(str(_limits(pod)), "/gpu")
    if has(said, "unreachable", "not-ready"):
        return Reason(
            "pod.nodes_silent",
            "Machines that could run it do not answer just now.",
            "Wait, or tell an admin.",
            waits=True,
        )
    if has(said, "untolerated taint", "taints that the pod didn't tolerate"):
        return Reason(
            "pod.node_reserved",
            "The machines that could run it are closed or reserved for other work.",
            "Wait, or tell an admin.",
            waits=True,
        )
    if has(said, "were unschedulable"):
        return Reason(
            "pod.node_closed",
            "The machines that could run it take no new work just now.",
            "Wait, or tell an admin.",
            waits=True,
        )
    if has(said, "affinity", "selector", "requested node name"):
        if wants_gpu:
            sentence = f"No machine has a GPU of {_type(pod) or 'that type'}."
            return Reason("pod.no_gpu_type", sentence, "Choose another GPU type, or tell an admin.")
        return Reason("pod.no_matching_node", "No machine is of the kind that this installation asks for.", ADMIN)
    return Reason("pod.unschedulable", "No machine was found that can run it.", "Wait, or tell an admin.", waits=True)


def _free_gpus(pod: Object, resources: Sequence[str]) -> str:
    """What was looked for: "a free GPU of type a100", "2 free GPUs"."""
    asked = [limits.get(resource, 0) for limits in _limits(pod) for resource in resources]
    count = sum(int(each) for each in asked if str(each).isdecimal())
    kind = _type(pod)
    return ("a free GPU" if count <= 1 else f"{count} free GPUs") + (f" of {kind}" if kind else "")


def _type(pod: Object) -> str:
    name = (pod["metadata"].get("annotations") or {}).get(GPU_TYPE)
    return f"type {name}" if name else ""


def _limits(pod: Object) -> list[Object]:
    containers = (pod.get("spec") or {}).get("containers") or ()
    return [(each.get("resources") or {}).get("limits") or {} for each in containers]
