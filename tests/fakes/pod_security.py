"""The Pod Security level "restricted", as the standard words it: what a namespace that enforces it would refuse in a pod."""

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
HOST = ("hostNetwork", "hostPID", "hostIPC")


def violations(spec: Mapping[str, Any]) -> list[str]:
    """In words, one for each rule that the pod's spec breaks; of its every container."""
    found = [f"{name} is set" for name in HOST if spec.get(name)]
    found += [
        f"volume {volume['name']} is a {kind}"
        for volume in spec.get("volumes", ())
        for kind in set(volume) - {"name"}
        if kind not in VOLUMES
    ]
    pod = spec.get("securityContext", {})
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind, ()):
            found += [f"{container['name']}: {rule}" for rule in _container(container, pod)]
    return found + [f"{name} of the pod" for name in ("sysctls", "seLinuxOptions", "appArmorProfile") if name in pod]


def _container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "has capabilities"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True or own.get("runAsUser", pod.get("runAsUser")) == 0:
        yield "may run as root"
    profile = own.get("seccompProfile", pod.get("seccompProfile")) or {}
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if own.get("procMount", "Default") != "Default" or "seLinuxOptions" in own:
        yield "has a mount or label of its own"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "has a port of the host"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if any(isinstance(how, Mapping) and "host" in how for how in container.get(probe, {}).values()):
            yield f"{probe} names a host"
