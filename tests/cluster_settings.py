"""What the chart tells hub and service of a cluster, as small as it may be; the chart's own tests render the whole."""

from typing import Any

from moorage_spawners.launch.kubernetes_settings import KubernetesSettings

CLUSTER: dict[str, Any] = {
    "release": "moorage", "namespace": "moorage", "managed_by": "moorage.moorage", "namespace_prefix": "moorage",
    "workloads_role": "moorage-workloads", "spawner_role": "moorage-spawner",
    "hub_account": "moorage-hub", "service_account": "moorage-service", "proxy_pods": "moorage-proxy-pods.moorage",
    "pods": {"image": "registry.example.org/moorage/notebook:1"},
    "homes": {"capacity": "10Gi", "mount_path": "/home/jovyan"},
    "network_policy": {},
    "registry": {"url": "registry.example.org/environments"},
    "builds": {"image": "registry.example.org/moorage/control:1"},
}  # fmt: skip


def cluster_settings(**changed: Any) -> KubernetesSettings:
    return KubernetesSettings(**{**CLUSTER, **changed})
