"""A workload's process as a pod. Pure: the same spec and settings give the same manifest, composed from an allow-list.

It passes the Pod Security level "restricted": no root, no capabilities, a read-only root filesystem, no token of the cluster.
"""

import base64
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage.wire.workloads import Size
from moorage_spawners.launch import pod_parts
from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.labels import GPU_TYPE, KIND, Ownership
from moorage_spawners.launch.names import is_dns_label, pod_name
from moorage_spawners.launch.pod_parts import PodSettings

ENVIRONMENTS = "/opt/moorage/environments"  # in an image, where an environment is found by its digest
PROBE_PERIOD_S = 1  # until it answers the first time, when somebody waits
READINESS_PERIOD_S = 10
_PATH = re.compile(r"(/[A-Za-z0-9@._-]+)+", re.ASCII)
_SYSTEM = (
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr",
    "/boot",
    "/run/secrets",
    "/var/run",
)


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Ready = GET `path` at `port` is answered with 200 to 399; ended if not so once within `within_s` seconds."""

    port: int
    path: str
    within_s: int


@dataclass(frozen=True, kw_only=True)
class PodSpec:
    """One pod of a workload. `env` is its whole environment, with `secret_env` (variable -> key in the Secret `secret_name`).

    `home_claim` is mounted at `home`; without one `home` is empty and goes with the pod. `scratch_paths` are writable and empty, as
    /tmp is. `shm`: bytes of /dev/shm, which count as memory; half of it if None. `cwd`: must exist, for root would make it.
    """

    ownership: Ownership
    namespace: str
    image: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    size: Size
    home: str
    home_claim: str | None = None
    cwd: str | None = None
    secret_name: str | None = None
    secret_env: Mapping[str, str] = field(default_factory=dict)
    uid: int = 1000
    gid: int = 1000
    scratch_paths: tuple[str, ...] = ()
    shm: int | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    readiness: Readiness | None = None
    grace_s: int = 10

    @property
    def name(self) -> str:
        return pod_name(self.ownership.workload_id, self.ownership.generation)


def manifest(spec: PodSpec, settings: PodSettings) -> dict[str, Any]:
    """The pod, as it is sent to the API. Raises ManifestError, with a sentence that says what can't be used."""
    if not spec.argv or not is_dns_label(spec.namespace) or not is_dns_label(spec.ownership.role):
        raise ManifestError(
            "A pod needs a program, and a namespace and a role of lower-case letters, digits and dashes."
        )
    volumes, mounts = _volumes(spec, settings)
    selector = pod_parts.node_selector(spec.size, settings)
    priority = settings.priority_classes.get(spec.ownership.kind)
    body: dict[str, Any] = {
        "restartPolicy": "Never",  # what it held in memory would be gone, and nobody would be told
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": max(1, spec.grace_s),  # 0 would leave out the kubelet's confirmation
        "securityContext": pod_parts.pod_security(spec.uid, spec.gid),
        "containers": [_container(spec, settings, mounts)],
        "volumes": volumes,
    }
    if settings.image_pull_secrets:
        body["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    if selector:
        body["nodeSelector"] = selector
    borne = pod_parts.tolerations(spec.size, settings)
    if borne:
        body["tolerations"] = borne
    if priority:
        body["priorityClassName"] = priority
    if settings.home_on_one_node and spec.home_claim is not None:
        body["affinity"] = _beside_notebooks()
    metadata = {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": spec.ownership.labels(),
        "annotations": {**spec.ownership.annotations(), **_gpu_type(spec.size)},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def _beside_notebooks() -> dict[str, Any]:
    """On another node than the user's other notebooks it would wait for their home until they end.

    Only preferred: their node may be full, or have no GPU. It is of the pod's own namespace, which is its user's alone.
    """
    there = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {KIND: "notebook"}}}
    wish = {"weight": 100, "podAffinityTerm": there}
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}


def _gpu_type(size: Size) -> dict[str, str]:
    return {GPU_TYPE: size.gpu_type} if size.gpu and size.gpu_type is not None else {}


def secret_manifest(spec: PodSpec, values: Mapping[str, str]) -> dict[str, Any]:
    """The Secret that the pod's `secret_env` refers to: key -> value. Raises ManifestError when a key is missing, or is no use."""
    if spec.secret_name is None or set(values) != set(spec.secret_env.values()):
        raise ManifestError("The keys of a Secret are to be those that its pod refers to, no more and no fewer.")
    return secret(spec.ownership, spec.namespace, spec.secret_name, values)


def secret(ownership: Ownership, namespace: str, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """A Secret of a workload. Raises ManifestError."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in sorted(values.items())}
    metadata = {
        "name": pod_parts.volume_name(name, "The Secret"), "namespace": namespace, "labels": ownership.labels(),
        "annotations": ownership.annotations(),
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}


def _container(spec: PodSpec, settings: PodSettings, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": spec.ownership.role,
        "image": pod_parts.image(spec.image),
        "imagePullPolicy": settings.image_pull_policy,
        "command": [pod_parts.literal(part) for part in spec.argv],
        "env": pod_parts.environment(spec.env, spec.secret_name, spec.secret_env),
        "resources": pod_parts.resources(spec.size, settings),
        "securityContext": dict(pod_parts.CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # its last words are kept when it is gone
        "volumeMounts": mounts,
    }
    if spec.cwd is not None:
        container["workingDir"] = _path(spec.cwd)
    if spec.ports:
        container["ports"] = [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in sorted(spec.ports.items())
        ]
    if spec.readiness is not None:
        probe = {"httpGet": {"port": spec.readiness.port, "path": spec.readiness.path}, "timeoutSeconds": 5}
        container["startupProbe"] = {
            **probe,
            "periodSeconds": PROBE_PERIOD_S,
            "failureThreshold": max(1, spec.readiness.within_s // PROBE_PERIOD_S),
        }
        container["readinessProbe"] = {**probe, "periodSeconds": READINESS_PERIOD_S, "failureThreshold": 3}
    return container


def _volumes(spec: PodSpec, settings: PodSettings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes, and where they are mounted."""
    memory = spec.size.memory // 2 if spec.shm is None else spec.shm
    scratch = {"emptyDir": {"sizeLimit": str(settings.scratch)}}
    home: dict[str, Any] = scratch
    if spec.home_claim is not None:
        home = {"persistentVolumeClaim": {"claimName": pod_parts.volume_name(spec.home_claim, "The claim of the home")}}
    found = {
        "home": (_path(spec.home), home),
        "tmp": ("/tmp", scratch),  # noqa: S108 - the pod's own, not this machine's
        "shm": ("/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": str(memory)}}),  # noqa: S108
    }
    found.update({f"scratch-{number}": (_path(path), scratch) for number, path in enumerate(spec.scratch_paths)})
    places = [path for path, _ in found.values()]
    if len(set(places)) < len(places):
        raise ManifestError(f"Two volumes have one place in a pod; give each another of {', '.join(sorted(places))}.")
    volumes = [{"name": name, **volume} for name, (_, volume) in found.items()]
    return volumes, [{"name": name, "mountPath": path} for name, (path, _) in found.items()]


def _path(path: str) -> str:
    """Where a pod may write. Raises ManifestError for what belongs to the system, or is not plain."""
    if (
        not _PATH.fullmatch(path)
        or posixpath.normpath(path) != path
        or any(path == at or path.startswith(f"{at}/") for at in _SYSTEM)
    ):
        raise ManifestError(
            f"The folder {path!r:.200} can't be used in a pod; give a plain absolute path such as /home/user."
        )
    return path
