"""The machine has it, and it can't begin, or the machine fell silent."""

from collections.abc import Sequence

from moorage_spawners.launch.reasons.reading import condition, has, last, states, text
from moorage_spawners.launch.reasons.reason import ADMIN, AGAIN, Reason
from moorage_spawners.launch.types import Object


def starting(pod: Object, events: Sequence[Object]) -> Reason | None:
    for waiting in states(pod, "waiting"):
        reason, said = waiting.get("reason"), text(waiting)
        if reason == "CreateContainerConfigError" and has(said, "secret", "configmap"):
            return Reason(
                "pod.secret_missing",
                "What it is to be given as secrets was not found.",
                f"{AGAIN} If that does not help, tell an admin.",
            )
        if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            if has(said, "executable file not found", "no such file or directory"):
                return program_missing()
            return Reason("pod.cannot_start", "The machine can't start it.", ADMIN)
    network = last(events, "FailedCreatePodSandBox", "NetworkNotReady", "Pulling", "Pulled", "Started")
    if network is not None and network["reason"] in ("FailedCreatePodSandBox", "NetworkNotReady"):
        return Reason(
            "pod.no_network",
            "The machine can't give it a network just now.",
            "Wait, it is tried again; or tell an admin.",
            waits=True,
        )
    if _is_silent(pod):
        return Reason(
            "pod.node_silent",
            "The machine that runs it does not answer just now.",
            "Wait; it may still run, and come back.",
            waits=True,
        )
    return None


def _is_silent(pod: Object) -> bool:
    """Its machine says that its containers are ready, and somebody else took that back for the whole pod: the node controller, which has
    not heard of the machine. We have no other gates of readiness. Its event says the same, and stays when the machine has come back.
    """
    taken_back = condition(pod, "Ready").get("status") == "False"
    return taken_back and condition(pod, "ContainersReady").get("status") == "True" and any(states(pod, "running"))


def program_missing() -> Reason:
    return Reason(
        "pod.program_missing",
        "Its program is not in the image.",
        "Build the project's environment again; if that does not help, tell an admin.",
    )
