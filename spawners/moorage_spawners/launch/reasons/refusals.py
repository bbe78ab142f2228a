"""The API server did not take the pod at all."""

from moorage_spawners.launch.reasons.reading import has
from moorage_spawners.launch.reasons.reason import ADMIN, Reason


def refused(status: int, message: str) -> Reason:
    """`status` is the answer's, `message` that of the Status object in it."""
    if has(message, "because it is being terminated") or (status == 404 and has(message, "namespaces")):
        return Reason(
            "pod.namespace_ending",
            "The place for your work is just being removed.",
            "Wait a minute and start it again; or tell an admin.",
            waits=True,
        )
    if has(message, "exceeded quota"):
        return Reason(
            "pod.quota",
            "It is more than the cluster allows you to hold at once.",
            "Stop something of yours, or ask an admin for more.",
        )
    if has(message, "failed quota", "status unknown for quota", "insufficient quota"):
        return Reason(
            "pod.quota_unknown",
            "The cluster can't tell yet how much you hold.",
            "Wait a minute and start it again; or tell an admin.",
            waits=True,
        )
    if has(message, "violates podsecurity"):
        return Reason("pod.insecure", "The cluster's security rules refuse it.", ADMIN)
    if has(message, " usage per ", "max limit to request ratio"):
        return Reason(
            "pod.size_refused",
            "The cluster does not allow a single program of that size.",
            "Choose another size, or ask an admin.",
        )
    if has(message, "admission webhook"):
        return Reason("pod.policy", "A rule of the cluster refuses it.", ADMIN)
    if has(message, "no priorityclass with name"):
        return Reason("pod.misconfigured", "The cluster lacks what this installation is set up to use.", ADMIN)
    if status in (429, 500, 502, 503, 504):
        return Reason(
            "pod.cluster_busy", "The cluster does not answer just now.", "Wait; it is tried again.", waits=True
        )
    if status in (401, 403):
        return Reason(
            "pod.not_permitted", "This installation may not start anything in your place of the cluster.", ADMIN
        )
    return Reason("pod.refused", "The cluster does not take it.", ADMIN)
