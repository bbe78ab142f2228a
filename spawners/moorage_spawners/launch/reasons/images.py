"""The image can't be had, or is still on its way."""

from collections.abc import Sequence
from datetime import datetime

from moorage_spawners.launch.reasons.reading import has, last, states, text, when
from moorage_spawners.launch.reasons.reason import ADMIN, Reason
from moorage_spawners.launch.types import Object

FAILED = {
    "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed", "ImageInspectError", "ErrImageNeverPull",
}  # fmt: skip
AWAY = (
    "no such host", "server misbehaving", "connection refused", "connection reset", "i/o timeout", "tls handshake", "no route to host",
    "network is unreachable", "context deadline exceeded", "registryunavailable", "registry is unavailable", "unexpected eof",
    "500 internal", "502 bad", "503 service", "504 gateway",
)  # fmt: skip
BUSY = ("429 too many", "toomanyrequests")
UNTRUSTED = ("x509:", "http response to https client", "signaturevalidationfailed", "signature validation failed")
DENIED = (
    "401 unauthorized", "403 forbidden", "unauthorized", "pull access denied", "no basic auth credentials", "insufficient_scope",
    "authorization failed", "authentication required",
)  # fmt: skip
MISSING = ("not found", "manifest unknown", "name unknown", "name_unknown", "manifest_unknown")
SPACE = ("no space left on device",)


def image(pod: Object, events: Sequence[Object], now: datetime) -> Reason | None:
    """None when the image is there, or nothing was said of it yet."""
    for waiting in states(pod, "waiting"):
        if waiting.get("reason") == "InvalidImageName":
            return Reason("image.invalid", "The name of its image is not valid.", ADMIN)
        if waiting.get("reason") in FAILED:
            # Older kubelets tell the cause in the event alone, and go on to say that they wait.
            return _failure(pod, f"{waiting['reason']} {text(waiting)} {text(_last_failure(events))}")
    if any(True for _ in states(pod, "waiting")):
        event = last(events, "Pulling", "Pulled", "Failed", "Started")
        if event is not None and event["reason"] == "Pulling":
            seconds = max(0, round((now - when(event)).total_seconds()))
            return Reason(
                "image.pulling",
                f"Its image is being fetched{f', for {seconds} s so far' if seconds > 1 else ''}.",
                "Wait; the next start here is faster.",
                waits=True,
            )
    return None


def _last_failure(events: Sequence[Object]) -> Object | None:
    return next(
        (each for each in reversed(events) if each.get("reason") == "Failed" and has(text(each), "pull image")), None
    )


def _failure(pod: Object, said: str) -> Reason:
    if has(said, *SPACE):
        return Reason("image.no_space", "The machine has no disk space left for its image.", ADMIN, waits=True)
    if has(said, *UNTRUSTED):
        return Reason(
            "image.untrusted", "The registry that holds its image can't prove that it is the right one.", ADMIN
        )
    if has(said, *BUSY):
        return Reason(
            "image.registry_busy",
            "The registry that holds its image takes no more requests just now.",
            "Wait; it is tried again.",
            waits=True,
        )
    if has(said, *AWAY):
        return Reason(
            "image.registry_away",
            "The registry that holds its image does not answer.",
            "Wait, it is tried again; or tell an admin.",
            waits=True,
        )
    if has(said, *DENIED):
        return Reason("image.denied", f"The registry does not hand out its image: it is not there, or {_key(pod)}.", ADMIN)
    if has(said, *MISSING, "errimageneverpull"):
        return Reason(
            "image.missing",
            "Its image was not found in the registry.",
            "Build the project's environment again, or tell an admin.",
        )
    return Reason("image.failed", "Its image can't be fetched.", ADMIN, waits=True)


def _key(pod: Object) -> str:
    """What is wrong with its credentials, if it is they."""
    names = [each["name"] for each in (pod.get("spec") or {}).get("imagePullSecrets") or ()]
    if not names:
        return "it takes a pull secret, and the pod has none"
    where = pod["metadata"].get("namespace", "")
    return f"the pull secret {' or '.join(names)} of the namespace {where} is wrong"
