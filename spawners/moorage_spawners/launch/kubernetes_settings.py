"""What hub and service are told of the cluster in which they run, by the chart: the part `kubernetes:` of their settings."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


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


class NetworkPolicy(_Part):
    """What users' pods may reach. `core_labels`: of the chart's own pods."""

    enabled: bool = True
    blocked_addresses: list[str] = Field(default_factory=list)
    non_private_ips: bool = True
    private_ips: bool = False
    egress: list[dict[str, Any]] = Field(default_factory=list)
    core_labels: dict[str, str] = Field(default_factory=dict)


class Registry(_Part):
    """Where environments' images are kept; the secrets are files with Docker's credentials."""

    url: str = ""
    insecure: bool = False
    push_secret: str = ""
    pull_secret: str = ""


class Builds(_Part):
    """Pods that build environments."""

    image: str
    cpu: float = Field(2.0, gt=0)
    memory: str = "4Gi"
    disk: str = "20Gi"
    concurrent: int = Field(2, ge=1)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)


class KubernetesSettings(_Part):
    """`namespaces`: made by an admin beforehand; empty where the service makes one for each user."""

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
    priority_class: str = ""
    quota: dict[str, Any] = Field(default_factory=dict)
    pods: Pods
    homes: Homes
    gpu_types: Any = None
    network_policy: NetworkPolicy
    registry: Registry
    builds: Builds
    kuberay: bool = False
    dask_operator: bool = False
