"""What hub and service are told of the cluster in which they run, by the chart: the part `kubernetes:` of their settings."""

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from moorage_spawners.launch.namespaces import PRIVATE_RANGES, ReleaseSettings
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.timing import STALE_AFTER_S, Timing


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pods(_Part):
    """Users' pods. `cpu_limit`: whether one may use idle cores beyond its size. `image`: of a notebook's server."""

    image: str
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    cpu_limit: Literal["none", "size"] = "none"
    uid: int = Field(1000, ge=1)
    fs_gid: int = Field(100, ge=1)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    env: dict[str, Any] = Field(default_factory=dict)


class Homes(_Part):
    """Volumes of users' homes."""

    capacity: str
    mount_path: str
    storage_class: str = ""
    access_modes: list[str] = Field(default_factory=lambda: ["ReadWriteOnce"])


class NameServers(_Part):
    """Where pods ask for names: pods with these labels, at their own ports, and `ranges` of addresses that are no such pods."""

    namespace: str = "kube-system"
    labels: dict[str, str] = Field(default_factory=lambda: {"k8s-app": "kube-dns"}, min_length=1)
    ports: list[int] = Field(default_factory=lambda: [53], min_length=1)  # none would be all
    ranges: list[str] = Field(default_factory=list)


class NetworkPolicy(_Part):
    """What users' pods may reach. `core_labels`: of the chart's own pods; `hub_labels`, `proxy_labels`: of a hub that was there before."""

    enabled: bool = True
    blocked_addresses: list[str] = Field(default_factory=list)
    non_private_ips: bool = True
    private_ips: bool = False
    egress: list[dict[str, Any]] = Field(default_factory=list)
    dns: NameServers = Field(default_factory=NameServers)
    core_labels: dict[str, str] = Field(default_factory=dict)
    hub_labels: dict[str, str] = Field(default_factory=dict)
    proxy_labels: dict[str, str] = Field(default_factory=dict)


class Registry(_Part):
    """Where environments' images are kept; the secrets are files with Docker's credentials."""

    url: str = ""
    insecure: bool = False
    push_secret: str = ""
    pull_secret: str = ""


class SystemBuilds(_Part):
    """Pods that install Debian packages, as root of an image. `namespace`: made by an admin for them alone; none are installed when empty.

    `user_namespace`: whether that root is nobody outside the pod. `sources`: a .sources file in place of the image's; `apt`: further
    settings, as in apt.conf.
    """

    namespace: str = ""
    user_namespace: bool = False
    sources: str = ""
    apt: str = ""


class Builds(_Part):
    """Pods that build environments. `image`: hub and service's own, of the step that pushes. `namespace`: made by an admin beforehand;
    `env`: how a package index is reached; `ca_certificates`: PEM text, in place of the authorities that the images trust; `egress`:
    further rules.
    """

    image: str
    namespace: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    ca_certificates: str = ""
    egress: list[dict[str, Any]] = Field(default_factory=list)
    keep_images_days: float = Field(30.0, gt=0)
    cpu: float = Field(2.0, gt=0)
    memory: str = "4Gi"
    disk: str = "20Gi"
    concurrent: int = Field(2, ge=1)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    system: SystemBuilds = Field(default_factory=SystemBuilds)


class GpuType(_Part):
    """`nodeLabels`: of the machines that have this type; `resource`: what a pod asks for; `count`: of them, if bounded."""

    node_labels: dict[str, str] = Field(alias="nodeLabels")
    resource: str = "nvidia.com/gpu"
    count: int | None = Field(None, ge=0)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)


class Watch(_Part):
    """How old what is known of the pods may be. `resync_s`: a complete list comes at least so often. `silence_s`: a stream of changes
    in which nothing comes for so long counts as dead, and a list is asked for. `stale_s`: what was not borne out for so long
    decides nothing.
    """

    resync_s: float = Field(300.0, gt=0)
    silence_s: float = Field(100.0, gt=0)
    stale_s: float = Field(STALE_AFTER_S, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.stale_s <= self.silence_s:
            raise ValueError(
                "stale_s must be more than silence_s, or a quiet cluster would count as one that is not heard of"
            )
        return self

    def timing(self) -> Timing:
        usual = Timing()
        # A stream that was only silent is no failure after which to wait longer.
        steady_s = min(usual.steady_s, self.silence_s / 2)
        return replace(usual, resync_s=self.resync_s, silence_s=self.silence_s, steady_s=steady_s)


class KubernetesSettings(_Part):
    """`namespaces`: made by an admin beforehand; empty where the service makes one for each user.

    `proxy_pods`: a name that leads to the proxy's pods, whose word alone is believed about a browser's address.
    """

    release: str
    namespace: str
    managed_by: str
    namespaces: list[Any] = Field(default_factory=list)
    namespace_prefix: str = ""
    namespace_labels: dict[str, str] = Field(default_factory=dict)
    namespace_annotations: dict[str, str] = Field(default_factory=dict)
    workloads_role: str = ""
    spawner_role: str = ""
    hub_account: str
    service_account: str
    proxy_pods: str = ""
    priority_class: str = ""
    quota: dict[str, Any] = Field(default_factory=dict)
    pods: Pods
    homes: Homes
    gpu_types: dict[str, GpuType] = Field(default_factory=dict)
    network_policy: NetworkPolicy
    registry: Registry
    builds: Builds
    watch: Watch = Field(default_factory=Watch)
    kuberay: bool = False
    dask_operator: bool = False

    def release_settings(self) -> ReleaseSettings:
        """What users' namespaces are made with."""
        policy = self.network_policy
        denied = [*policy.blocked_addresses, *(() if policy.private_ips else PRIVATE_RANGES)]
        return ReleaseSettings(
            release=self.release, namespace=self.namespace, managed_by=self.managed_by, workloads_role=self.workloads_role,
            spawner_role=self.spawner_role, service_account=self.service_account, hub_account=self.hub_account,
            world=policy.non_private_ips, denied_ranges=tuple(dict.fromkeys(denied)), egress=tuple(policy.egress),
            dns_namespace=policy.dns.namespace, dns_labels=policy.dns.labels, dns_ports=tuple(policy.dns.ports),
            dns_ranges=tuple(policy.dns.ranges), policies=policy.enabled, labels=self.namespace_labels,
            annotations=self.namespace_annotations,
            elsewhere={"hub": policy.hub_labels, "proxy": policy.proxy_labels},
        )  # fmt: skip

    def pod_settings(self, image_pull_secrets: tuple[str, ...] = ()) -> PodSettings:
        """What users' pods are made with."""
        return PodSettings(
            gpu_node_labels={name: each.node_labels for name, each in self.gpu_types.items()},
            gpu_resources={name: each.resource for name, each in self.gpu_types.items()},
            gpu_tolerations={name: tuple(each.tolerations) for name, each in self.gpu_types.items()},
            node_labels=self.pods.node_selector,
            tolerations=tuple(self.pods.tolerations), cpu_limit="equal" if self.pods.cpu_limit == "size" else "burstable",
            image_pull_policy=self.pods.image_pull_policy, image_pull_secrets=image_pull_secrets,
            home_on_one_node="ReadWriteMany" not in self.homes.access_modes,
            priority_classes=dict.fromkeys(("notebook", "cluster", "run"), self.priority_class) if self.priority_class else {},
        )  # fmt: skip
