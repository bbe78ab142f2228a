"""It ran, or never could, and has ended or is being ended: what ended it."""

from collections.abc import Sequence

from moorage_spawners.launch.reasons.reading import condition, has, last, states, status, text
from moorage_spawners.launch.reasons.reason import AGAIN, Reason
from moorage_spawners.launch.reasons.starting import program_missing
from moorage_spawners.launch.reasons.volumes import FULL, full
from moorage_spawners.launch.types import Object

LONGEST_LINE = 300
UNSEEN = "ContainerStatusUnknown"  # the exit code beside it is made up
STARTED_WRONG = ("StartError", "ContainerCannotRun")
REFUSED_BY_MACHINE = (
    "OutOf",
    "UnexpectedAdmissionError",
    "NodeAffinity",
    "NodePorts",
    "InvalidNodeInfo",
    "UnknownReason",
)


def ended(pod: Object, events: Sequence[Object]) -> Reason | None:
    """None while it lives and nothing is about to end it. An end in good order has no reason either."""
    reason = _taken_away(pod) or _by_the_machine(pod)
    if reason is not None:
        return reason
    for found in states(pod, "terminated"):
        if found.get("exitCode") != 0:
            return _exit(found, events)
    for each in status(pod).get("containerStatuses") or ():  # one that others start again and again
        before = (each.get("lastState") or {}).get("terminated")
        waiting = (each.get("state") or {}).get("waiting") or {}
        if before and waiting.get("reason") == "CrashLoopBackOff":
            return _exit(before, events)
    if status(pod).get("phase") == "Failed":
        return Reason("pod.failed", "It was ended, and nothing was said of why.", AGAIN)
    return None


def _taken_away(pod: Object) -> Reason | None:
    """By something outside its machine."""
    target = condition(pod, "DisruptionTarget")
    why = target.get("reason") if target.get("status") == "True" else None
    said = status(pod).get("reason")
    if why == "PreemptionByScheduler" or said in ("Preempting", "Preempted"):
        return Reason("pod.preempted", "It had to make room for more important work.", f"{AGAIN} It waits for room.")
    if why in ("DeletionByTaintManager", "DeletionByPodGC") or said == "NodeLost":
        return Reason(
            "pod.node_lost",
            "The machine that ran it was lost, and what it held in memory with it.",
            f"Files are as they were last saved. {AGAIN}",
        )
    if why == "EvictionByEvictionAPI":
        return Reason(
            "pod.drained",
            "The machine that ran it is being taken out of service.",
            f"Files are as they were last saved. {AGAIN}",
        )
    return None


def _by_the_machine(pod: Object) -> Reason | None:
    said, message = str(status(pod).get("reason") or ""), text(status(pod))
    if said == "Evicted":
        if has(message, "emptydir volume", "ephemeral local storage", "local ephemeral storage limit"):
            return Reason(
                "pod.scratch_full",
                "It filled more of the machine's disk than it may, in /tmp or its like.",
                f"Keep large files in your home. {AGAIN}",
            )
        if has(message, "resource: memory", "memorypressure"):
            sentence = "The machine ran out of memory, and it used more than it had asked for."
            return Reason("pod.evicted", sentence, "Start it again with more memory.")
        return Reason("pod.evicted", "The machine ran out of disk space, so it was ended.", AGAIN)
    if said in ("Terminated", "NodeShutdown", "Shutdown"):
        return Reason(
            "pod.node_shutdown", "The machine that ran it was shut down.", f"Files are as they were last saved. {AGAIN}"
        )
    if said == "DeadlineExceeded":
        return Reason("pod.deadline", "It ran longer than it may.", "Ask for more time, or do less at once.")
    if said.startswith(REFUSED_BY_MACHINE):
        return Reason("pod.rejected", "The machine had no room left when it came.", AGAIN)
    return None


def _exit(found: Object, events: Sequence[Object]) -> Reason:
    """Of a container that ended with another code than 0."""
    code, said, line = found.get("exitCode"), text(found), _last_line(text(found))
    if found.get("reason") == "OOMKilled":
        return Reason(
            "pod.out_of_memory",
            "It used more memory than its size allows and was ended.",
            "Start it again with more memory.",
        )
    if found.get("reason") == UNSEEN:
        return Reason("pod.ended_unseen", "It ended while its machine could not be asked how.", AGAIN)
    if found.get("reason") in STARTED_WRONG:
        return program_missing()
    if has(said, *FULL):
        return full()
    probe = last(events, "Killing")
    if probe is not None and has(text(probe), "failed startup probe"):
        return Reason("pod.never_answered", "It did not answer in time after its start, so it was ended.", AGAIN)
    how = f"by signal {code - 128}" if isinstance(code, int) and 128 < code < 193 else f"with exit status {code}"
    says = f" It says: {line}" if line else ""
    return Reason("pod.crashed", f"It ended {how}.{says}", f"Its log says more; {AGAIN.lower()}")


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:LONGEST_LINE] if lines else ""
