"""The parts of which every pod of a workload is made: nothing gets into one but through these. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moorage.quantities import MOST
from moorage.wire.workloads import Size
from moorage_spawners.launch.errors import ManifestError

# A registry with a port or a dot, or localhost; a path; maybe a tag, for people; and the digest, which decides.
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
IMAGE = re.compile(
    rf"(localhost|{_LABEL}(\.{_LABEL})+|{_LABEL}(\.{_LABEL})*(?=:[0-9]))(:[0-9]{{1,5}})?"
    r"(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64}",
    re.ASCII,
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
SCRATCH_REQUEST = 1 << 30  # bytes of a node's disk that the scheduler counts for a pod; more is taken as it is there

CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """An installation's rules for pods.

    `gpu_node_labels`, `gpu_resources`, `gpu_tolerations`: for each GPU type the labels of the nodes that have it, what a pod asks for
    (`gpu_resource` if not there), and the taints of those nodes. `cpu_limit`: "equal" holds a pod to its cores,
    "burstable" lets it use what others leave. `priority_classes`: by kind of workload. `tolerations`: as Kubernetes writes
    them. `scratch`: bytes of a node's disk that one pod may fill, in /tmp and its like. `home_on_one_node`: whether a home can't be
    mounted on several nodes at once.
    """

    gpu_resource: str = "nvidia.com/gpu"
    gpu_node_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gpu_resources: Mapping[str, str] = field(default_factory=dict)
    gpu_tolerations: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str], ...] = ()
    cpu_limit: Literal["equal", "burstable"] = "burstable"
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    priority_classes: Mapping[str, str] = field(default_factory=dict)
    scratch: int = 8 << 30
    home_on_one_node: bool = False


def pod_security(uid: int, gid: int) -> dict[str, Any]:
    """Files of a mounted volume go to `gid` where the volume's driver can do it. Raises ManifestError for root."""
    if uid <= 0 or gid <= 0:
        raise ManifestError(f"A workload never runs as root; give it a uid and a gid above 0, not {uid} and {gid}.")
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": gid,
        "fsGroup": gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def image(reference: str) -> str:
    """The reference itself, if it names one image for ever. Raises ManifestError."""
    if not IMAGE.fullmatch(reference):
        raise ManifestError(
            f"Image {reference!r:.200} can't be used; write registry/path@sha256: and the 64 digits of its digest."
        )
    return reference


def resources(size: Size, settings: PodSettings) -> dict[str, Any]:
    """Memory and GPUs are held to what was admitted, cores as the settings say.

    Raises ManifestError for amounts that are none, and for GPUs of any type where types are different resources.
    """
    if not (
        math.isfinite(size.cpu) and 0 < size.cpu * 1000 <= MOST and 0 < size.memory <= MOST and 0 <= size.gpu <= MOST
    ):
        raise ManifestError(f"The size {size} can't be used; give amounts above 0.")
    cpu, memory, disk = f"{max(1, round(size.cpu * 1000))}m", str(size.memory), str(settings.scratch)
    requests = {"cpu": cpu, "memory": memory, "ephemeral-storage": str(min(SCRATCH_REQUEST, settings.scratch))}
    limits = {"memory": memory, "ephemeral-storage": disk}
    if settings.cpu_limit == "equal":
        limits["cpu"] = cpu
    if size.gpu:
        types = _gpu_types(size, settings)
        different = {settings.gpu_resources.get(each, settings.gpu_resource) for each in types} or {settings.gpu_resource}
        if len(different) > 1:
            raise ManifestError(f"GPUs are of different kinds here, so choose a type; those there are: {', '.join(types)}.")
        resource = different.pop()
        requests[resource] = limits[resource] = str(size.gpu)
    return {"requests": requests, "limits": limits}


def node_selector(size: Size, settings: PodSettings) -> dict[str, str]:
    """Which nodes may run a pod of this size. Raises ManifestError for a GPU type that the installation does not know."""
    labels = dict(settings.node_labels)
    types = _gpu_types(size, settings)
    if len(types) == 1:
        found = settings.gpu_node_labels.get(types[0])
        if not found:
            known = ", ".join(sorted(settings.gpu_node_labels)) or "none"
            raise ManifestError(f"There is no GPU type {types[0]!r:.80} here; those there are: {known}.")
        labels.update(found)
    return labels


def tolerations(size: Size, settings: PodSettings) -> list[dict[str, str]]:
    """The taints that a pod of this size bears; with GPUs of any type those of every type."""
    typed = [each for kind in _gpu_types(size, settings) for each in settings.gpu_tolerations.get(kind, ())]
    found: list[dict[str, str]] = []
    for each in map(dict, (*settings.tolerations, *typed)):
        if each not in found:
            found.append(each)
    return found


def _gpu_types(size: Size, settings: PodSettings) -> list[str]:
    """Those of which the GPUs of this size may be: the one that was asked for, or all there are."""
    if not size.gpu:
        return []
    return sorted(settings.gpu_node_labels) if size.gpu_type is None else [size.gpu_type]


def environment(plain: Mapping[str, str], secret_name: str | None, secret: Mapping[str, str]) -> list[dict[str, Any]]:
    """Plain values as they are, secret ones (variable -> key of the Secret) by reference. Raises ManifestError."""
    for name in (*plain, *secret):
        if not _VARIABLE.fullmatch(name):
            raise ManifestError(f"{name!r:.80} is no name for a variable; use letters, digits and underscores.")
    both = sorted(set(plain) & set(secret))
    if both:
        raise ManifestError(f"The variable {both[0]} is given as a value and as a secret; leave one of them out.")
    if secret and not (secret_name and _SUBDOMAIN.fullmatch(secret_name) and all(map(_KEY.fullmatch, secret.values()))):
        raise ManifestError(
            "Secrets are given by the name of a Secret and the keys in it; one of these is missing or invalid."
        )
    values: list[dict[str, Any]] = [{"name": name, "value": literal(value)} for name, value in sorted(plain.items())]
    return values + [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}}
        for name, key in sorted(secret.items())
    ]


def literal(text: str) -> str:
    """As a container gets it unchanged: the kubelet would put in variables for $(NAME). Raises ManifestError for a NUL."""
    if "\0" in text:
        raise ManifestError("A variable or an argument contains a NUL, which no process can be given; leave it out.")
    return text.replace("$", "$$")


def volume_name(text: str, what: str) -> str:
    """The name of a claim or a Secret. Raises ManifestError."""
    if not _SUBDOMAIN.fullmatch(text):
        raise ManifestError(f"{what} {text!r:.80} has no valid name; use lower-case letters, digits and dashes.")
    return text
