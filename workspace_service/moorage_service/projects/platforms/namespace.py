"""The namespace in which environments are built: what it holds, as manifests.

It is one of users' namespaces without the ways to Moorage itself: packages' code runs there, and nobody's work. Its pods reach the
world, where the package index is, and the registry, wherever that is. Where an admin has named one for Debian packages, it holds the
same, less the namespace itself and its rights, which are the admin's.
"""

import base64
import ipaddress
import socket
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from moorage.quantities import parse_memory
from moorage_images.errors import BuildError
from moorage_images.oci.reference import Reference
from moorage_spawners.launch import namespaces
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.labels import KIND, MANAGED_BY, MANAGER
from moorage_spawners.launch.namespaces import PRIVATE_RANGES, PULL_TYPE, UserNamespace

OWNER = "builds"
PULL, PUSH = "moorage-pull", "moorage-push"  # Secrets with a registry's credentials
_WAYS_TO_MOORAGE = ("allow-moorage", "allow-proxy")
_HTTP, _HTTPS = 80, 443


def name(settings: KubernetesSettings) -> str:
    """Raises BuildError where an admin makes namespaces, and has named none for builds."""
    if not settings.namespaces:
        return f"{settings.namespace_prefix}-builds"
    if not settings.builds.namespace:
        raise BuildError(
            "There is no namespace in which environments can be built. An admin makes one and names it in `builds.namespace`."
        )
    return settings.builds.namespace


def objects(settings: KubernetesSettings, place: str, registries: Collection[Reference]) -> list[dict[str, Any]]:
    """What the namespace `place` holds, all but the Secrets, in the order in which they can be made by the service itself. `registries`:
    images that are read or written. Raises ManifestError for a range of addresses that is none.
    """
    builds = settings.builds
    # A backstop: as many builds run as the builder has threads.
    amounts = {
        "pods": str(builds.concurrent),
        "requests.cpu": f"{round(builds.cpu * builds.concurrent * 1000)}m",
        "limits.memory": str(parse_memory(builds.memory) * builds.concurrent),
        "services": "0",
        "persistentvolumeclaims": "0",
    }
    # What an admin opens for users' pods is not opened for packages' code.
    denied = tuple(dict.fromkeys((*settings.network_policy.blocked_addresses, *PRIVATE_RANGES)))
    release = replace(settings.release_settings(), world=True, egress=(), denied_ranges=denied)
    contents = namespaces.objects(UserNamespace(name=place, owner=OWNER, quota=amounts), release)
    made = [each for each in contents if _wanted(each, settings)]
    if settings.network_policy.enabled:
        made.append(_egress("allow-registry", place, _ways(registries)))
        # With no rules, too: what was opened before is to be closed again, where the service may remove no policy.
        made.append(_egress("allow-more", place, builds.egress))
    # Rights first: all that follows is made by them.
    first = {"Namespace": 0, "RoleBinding": 1}
    return sorted(made, key=lambda each: first.get(each["kind"], 2))


def credentials(kind: str, namespace: str, content: bytes) -> dict[str, Any]:
    """`kind`: PULL or PUSH; `content`: of a .dockerconfigjson."""
    metadata = {"name": kind, "namespace": namespace, "labels": {MANAGED_BY: MANAGER, KIND: "build"}}
    data = {".dockerconfigjson": base64.b64encode(content).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "type": PULL_TYPE, "metadata": metadata, "data": data}


def _wanted(each: dict[str, Any], settings: KubernetesSettings) -> bool:
    metadata = each["metadata"]
    made_by_admin = (
        settings.namespaces or metadata.get("namespace", metadata["name"]) == settings.builds.system.namespace
    )
    match each["kind"]:
        case "Namespace":
            return not made_by_admin
        case "RoleBinding":
            return not made_by_admin and bool(metadata["name"] == settings.workloads_role)
        case "NetworkPolicy":
            return settings.network_policy.enabled and metadata["name"] not in _WAYS_TO_MOORAGE
        case "LimitRange":
            return False  # every container here says its size; one that says no limit of cores is to have none
    return True


def _egress(policy: str, namespace: str, rules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    metadata = {"name": policy, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}}
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": list(rules)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _ways(registries: Collection[Reference]) -> list[dict[str, Any]]:
    """To the registries' present addresses, private ones too. A registry that is a pod behind a Service needs `builds.egress`."""
    rules = []
    for host in sorted({each.host for each in registries}):
        address, ports = _address(host)
        found = sorted(_addresses(address))
        if found:
            rules.append(
                {
                    "to": [{"ipBlock": {"cidr": each}} for each in found],
                    "ports": [{"protocol": "TCP", "port": port} for port in ports],
                }
            )
    return rules


def _address(host: str) -> tuple[str, tuple[int, ...]]:
    """ "registry.example:5000" or "[::1]:5000" -> address and ports; both of the web's where none is said."""
    address, colon, port = host.rpartition(":")
    if colon and port.isdecimal():
        return address.strip("[]"), (int(port),)
    return host.strip("[]"), (_HTTPS, _HTTP)


def _addresses(name: str) -> set[str]:
    """As ranges of one address each; none when the name is not known just now, which the registry's own error will tell."""
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()
    return {str(ipaddress.ip_network(each.partition("%")[0])) for each in found}
