"""What Pod Security `restricted` refuses of a pod (kubernetes.io: Pod Security Standards), and what we ask beside it."""

from collections.abc import Iterator
from typing import Any

VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
HOST = ("hostNetwork", "hostPID", "hostIPC")
Spec = dict[str, Any]


def violations(pod: Spec) -> list[str]:
    """Each rule that a pod, or a pod template, breaks; empty when `restricted` lets it in."""
    spec = pod["spec"]
    found = [f"{name} is set" for name in HOST if spec.get(name)]
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            found.append(f"volume {volume['name']}: {', '.join(kinds - VOLUMES)}")
    of_pod = spec.get("securityContext", {})
    if of_pod.get("sysctls") or of_pod.get("windowsOptions") or of_pod.get("seLinuxOptions"):
        found.append("the pod sets sysctls, windowsOptions or seLinuxOptions")
    for container in containers(spec):
        found += [f"container {container['name']}: {said}" for said in _of_container(container, of_pod)]
    return found


def containers(spec: Spec) -> list[Spec]:
    return [*spec.get("initContainers", []), *spec["containers"], *spec.get("ephemeralContainers", [])]


def _of_container(container: Spec, of_pod: Spec) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if own.get("runAsUser", of_pod.get("runAsUser")) == 0:
        yield "runs as root"
    profile = own.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield f"seccompProfile is {profile}"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"]:
        yield "does not drop ALL capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"adds {capabilities['add']}"
    if own.get("procMount", "Default") != "Default" or own.get("seLinuxOptions") or own.get("windowsOptions"):
        yield "sets procMount, seLinuxOptions or windowsOptions"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "takes a port of the node"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "its root file system can be written (a rule of ours)"
