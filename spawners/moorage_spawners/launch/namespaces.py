"""What a user's namespace holds: pure manifests, in the order in which they are to be applied.

Every pod of the namespace starts with no way in or out; each policy here opens one. Traffic inside the namespace is opened by
the policies of its clusters, by label, not here.
"""

import base64
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.labels import INSTALLATION, KIND, MANAGED_BY, MANAGER, OWNER
from moorage_spawners.launch.names import is_dns_label, label_value

HOME_CLAIM = "home"
PULL_SECRET = "moorage-pull"  # noqa: S105 - its name
POLICIES = ("deny-all", "allow-names", "allow-moorage", "allow-proxy", "allow-more", "allow-world")
NAME = "moorage"  # of the quota and the limit range: one of each in a namespace
RBAC = "rbac.authorization.k8s.io"
PULL_TYPE = "kubernetes.io/dockerconfigjson"
# Where clouds hand a machine's own credentials to whoever asks; never reached, whatever the settings say.
METADATA_RANGES = ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128", "fe80::/10")
PRIVATE_RANGES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7")
EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, kw_only=True)
class ReleaseSettings:
    """The installation as users' pods may see it. `release`: of Helm, and `namespace` where it is installed. `managed_by`: the label
    of its namespaces, without which it may not touch them. Roles and accounts by their names.

    Ports are those of pods, not of services: policies are judged after a service's address was replaced. `denied_ranges`: what the
    world does not include, beside where clouds keep credentials. `dns_ranges`: for name servers that are no pods. `egress`: an
    admin's further rules. `policies`: whether there are any. `labels`, `annotations`: of namespaces, beside ours. `elsewhere`: hub
    or proxy -> labels of its pods, where they are not the installation's own.
    """

    release: str
    namespace: str
    managed_by: str
    workloads_role: str
    spawner_role: str
    service_account: str
    hub_account: str
    service_port: int = 8090
    hub_port: int = 8081
    notebook_port: int = 8888
    dns_namespace: str = "kube-system"
    dns_labels: Mapping[str, str] = field(default_factory=lambda: {"k8s-app": "kube-dns"})
    dns_ports: tuple[int, ...] = (53,)
    dns_ranges: tuple[str, ...] = ()
    world: bool = True
    denied_ranges: tuple[str, ...] = PRIVATE_RANGES
    egress: tuple[Mapping[str, Any], ...] = ()
    policies: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UserNamespace:
    """One user's. `owner` is what never changes about them. `quota`: the backstop behind the ledger, as `hard` of a ResourceQuota;
    `container_default`: what a container gets that says nothing, as operators' helpers do.
    """

    name: str
    owner: str
    quota: Mapping[str, str] = field(default_factory=dict)
    container_default: Mapping[str, str] = field(default_factory=lambda: {"cpu": "100m", "memory": "128Mi"})


def objects(user: UserNamespace, release: ReleaseSettings) -> list[dict[str, Any]]:
    """All but the Secrets. Raises ManifestError for a range that is none."""
    if not is_dns_label(user.name):
        raise ManifestError(f"{user.name!r:.80} can't name a namespace; ask namespace_name for one.")
    # Rights first: whoever makes the namespace has none in it before.
    made = [_labelled(each, user) for each in (_namespace(user, release), *_bindings(user, release))]
    return made + contents(user, release)


def contents(user: UserNamespace, release: ReleaseSettings) -> list[dict[str, Any]]:
    """Of all this what changes with limits and settings: the quota, the limit range and the policies."""
    policies = _policies(user, release) if release.policies else ()
    return [_labelled(each, user) for each in (_quota(user), _limit_range(user), *policies)]


def unwanted(user: UserNamespace, release: ReleaseSettings) -> list[dict[str, Any]]:
    """The policies that other settings would have made, by name."""
    wanted = {each["metadata"]["name"] for each in contents(user, release) if each["kind"] == "NetworkPolicy"}
    return [_policy(name, user, {}) for name in POLICIES if name not in wanted]


def claim(user: UserNamespace, *, capacity: str, storage_class: str, access_modes: Sequence[str]) -> dict[str, Any]:
    """The volume of the user's home, which outlives every notebook. `storage_class`: the cluster's default when empty."""
    spec: dict[str, Any] = {"accessModes": list(access_modes), "resources": {"requests": {"storage": capacity}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return _labelled(_object("v1", "PersistentVolumeClaim", HOME_CLAIM, user, spec), user)


def pull_secret(user: UserNamespace, credentials: bytes) -> dict[str, Any]:
    """The installation's credentials for its registry, a .dockerconfigjson, as the user's namespace needs them."""
    data = {".dockerconfigjson": base64.b64encode(credentials).decode()}
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": PULL_TYPE,
        "metadata": {"name": PULL_SECRET, "namespace": user.name},
    }
    return _labelled({**made, "data": data}, user)


def _labelled(made: dict[str, Any], user: UserNamespace) -> dict[str, Any]:
    made["metadata"].setdefault("labels", {}).update({MANAGED_BY: MANAGER, OWNER: label_value(user.owner)})
    return made


def _namespace(user: UserNamespace, release: ReleaseSettings) -> dict[str, Any]:
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    versions = {f"pod-security.kubernetes.io/{mode}-version": "latest" for mode in ("enforce", "audit", "warn")}
    labels = {**levels, **versions, INSTALLATION: release.managed_by}
    # Ours win: by them namespaces are confined.
    metadata = {
        "name": user.name, "labels": {**release.labels, **labels}, "annotations": {**release.annotations, OWNER: user.owner},
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _quota(user: UserNamespace) -> dict[str, Any]:
    # A service that the world can reach would be a way around the proxy.
    hard = {**user.quota, "services.nodeports": "0", "services.loadbalancers": "0"}
    return _object("v1", "ResourceQuota", NAME, user, {"hard": hard})


def _limit_range(user: UserNamespace) -> dict[str, Any]:
    request = dict(user.container_default)
    # Of memory alone: a bound on cores that nobody asked for would refuse every container that requests more of them.
    bound = {name: amount for name, amount in request.items() if name != "cpu"}
    limits = [{"type": "Container", "default": bound, "defaultRequest": request}]
    return _object("v1", "LimitRange", NAME, user, {"limits": limits})


def _policies(user: UserNamespace, release: ReleaseSettings) -> list[dict[str, Any]]:
    made = [
        _policy("deny-all", user, {"policyTypes": ["Ingress", "Egress"]}),
        _policy("allow-names", user, {"policyTypes": ["Egress"], "egress": [_names(release)]}),
        _policy("allow-moorage", user, {"policyTypes": ["Egress"], "egress": _moorage(release)}),
        _policy("allow-proxy", user, {"policyTypes": ["Ingress"], "ingress": [_proxy(release)]}, {KIND: "notebook"}),
    ]
    if release.egress:
        egress = [dict(each) for each in release.egress]
        made.append(_policy("allow-more", user, {"policyTypes": ["Egress"], "egress": egress}))
    if release.world:
        made.append(_policy("allow-world", user, {"policyTypes": ["Egress"], "egress": [{"to": _world(release)}]}))
    return made


def _names(release: ReleaseSettings) -> dict[str, Any]:
    servers: list[dict[str, Any]] = [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": release.dns_namespace}},
            "podSelector": {"matchLabels": dict(release.dns_labels)},
        }
    ]
    servers += [{"ipBlock": {"cidr": str(_range(each))}} for each in release.dns_ranges]
    return {
        "to": servers,
        "ports": [{"protocol": how, "port": port} for port in release.dns_ports for how in ("UDP", "TCP")],
    }


def _moorage(release: ReleaseSettings) -> list[dict[str, Any]]:
    return [
        {"to": [_component(release, "service")], "ports": [{"protocol": "TCP", "port": release.service_port}]},
        {"to": [_component(release, "hub")], "ports": [{"protocol": "TCP", "port": release.hub_port}]},
    ]


def _proxy(release: ReleaseSettings) -> dict[str, Any]:
    # The hub, too: it asks a server whether it answers before it leads anybody there.
    return {
        "from": [_component(release, "proxy"), _component(release, "hub")],
        "ports": [{"protocol": "TCP", "port": release.notebook_port}],
    }


def _world(release: ReleaseSettings) -> list[dict[str, Any]]:
    """One block for each family of addresses, less what is denied in it."""
    denied = [_range(each) for each in dict.fromkeys((*METADATA_RANGES, *release.denied_ranges))]
    blocks = []
    for everywhere in map(ipaddress.ip_network, EVERYWHERE):
        without = [str(each) for each in denied if each.version == everywhere.version]
        blocks.append({"ipBlock": {"cidr": str(everywhere), "except": without}})
    return blocks


def _component(release: ReleaseSettings, component: str) -> dict[str, Any]:
    own = {"app.kubernetes.io/instance": release.release, "app.kubernetes.io/component": component}
    labels = dict(release.elsewhere.get(component) or own)
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": release.namespace}},
        "podSelector": {"matchLabels": labels},
    }


def _bindings(user: UserNamespace, release: ReleaseSettings) -> list[dict[str, Any]]:
    """Service and hub get their verbs here by two roles of the release, which bindings alone bring into force."""
    return [
        _binding(release.workloads_role, release.service_account, user, release),
        _binding(release.spawner_role, release.hub_account, user, release),
    ]


def _binding(role: str, account: str, user: UserNamespace, release: ReleaseSettings) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": user.name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": release.namespace}],
    }


def _policy(
    name: str, user: UserNamespace, spec: Mapping[str, Any], pods: Mapping[str, str] | None = None
) -> dict[str, Any]:
    selector = {"matchLabels": dict(pods)} if pods else {}
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, user, {"podSelector": selector, **spec})


def _object(version: str, kind: str, name: str, user: UserNamespace, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": user.name}, "spec": dict(spec)}


def _range(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ManifestError(f"{text!r:.80} is no range of addresses; write one such as 10.0.0.0/8.") from error
