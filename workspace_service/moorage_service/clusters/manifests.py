"""Plans as manifests for the operators of Kubernetes: KubeRay's RayCluster, dask-kubernetes' DaskCluster. Pure.

Secrets go by reference only: the Secret named like the cluster holds the credentials under their names. The operators
give ports, addresses and probes of their own; a plan for them is made with a `Site` that is not shared.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage.wire import Size
from moorage_service.clusters.plan import ClusterPlan, RolePlan

LONGEST_RAY_NAME = 50  # KubeRay cuts longer names, and two clusters might then share a Secret
# What KubeRay derives by itself: from the container's limits, or for its own Service and probes.
KUBERAY_SETS = (
    "head",
    "block",
    "address",
    "port",
    "ray-client-server-port",
    "dashboard-host",
    "dashboard-port",
    "memory",
)
GROUP = "workers"
RESTRICTED: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a manifest will be applied, and whose it is. `gpu_resource`: how the nodes call a GPU."""

    name: str
    namespace: str
    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    gpu_resource: str = "nvidia.com/gpu"


def ray_cluster(plan: ClusterPlan, target: Target, *, ray_version: str, workers: int) -> dict[str, Any]:
    """A `ray.io/v1` RayCluster: token authentication, no in-tree autoscaler, `workers` workers."""
    if len(target.name) > LONGEST_RAY_NAME:
        raise ValueError(f"name {target.name!r} is longer than {LONGEST_RAY_NAME} characters")
    ports = [
        {"name": "gcs-server", "containerPort": plan.ports["gcs"]},
        {"name": "dashboard", "containerPort": plan.ports["dashboard"]},
        {"name": "client", "containerPort": plan.ports["client"]},
    ]
    head = _container("ray-head", plan.head, plan, target, ports=ports)
    agent = _container("agent", plan.agent, plan, target, command=["python", "-m", "moorage.agent"])
    worker = _container("ray-worker", plan.worker, plan, target)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": _metadata(target),
        "spec": {
            "rayVersion": ray_version,
            "authOptions": {"mode": "token", "secretName": target.name},
            "enableInTreeAutoscaling": False,
            "headGroupSpec": {
                "serviceType": "ClusterIP",
                "rayStartParams": _ray_params(plan.head),
                "template": _template([head, agent], target),
            },
            "workerGroupSpecs": [
                {
                    "groupName": GROUP,
                    "replicas": workers,
                    "minReplicas": plan.spec.min_workers,
                    "maxReplicas": plan.spec.max_workers,
                    "rayStartParams": _ray_params(plan.worker),
                    "template": _template([worker], target),
                }
            ],
        },
    }


def dask_cluster(plan: ClusterPlan, target: Target, *, workers: int) -> dict[str, Any]:
    """A `kubernetes.dask.org/v1` DaskCluster over TLS: the operator knows of none, so the environment says it."""
    scheduler_address = f"tls://{target.name}-scheduler.{target.namespace}.svc:{plan.ports['scheduler']}"
    env = [{"name": "DASK_SCHEDULER_ADDRESS", "value": scheduler_address}]
    ports = [
        {"name": "tcp-comm", "containerPort": plan.ports["scheduler"], "protocol": "TCP"},
        {"name": "http-dashboard", "containerPort": plan.ports["dashboard"], "protocol": "TCP"},
    ]
    scheduler = _container("scheduler", plan.head, plan, target, command=list(plan.head.command()), ports=ports)
    agent = _container("agent", plan.agent, plan, target, command=["python", "-m", "moorage.agent"])
    # The operator names each worker by DASK_WORKER_NAME; kubelet puts it in.
    worker_command = list(plan.worker.named("$(DASK_WORKER_NAME)").command())
    worker = _container("worker", plan.worker, plan, target, command=worker_command)
    worker["env"] += env
    selector = {"dask.org/cluster-name": target.name, "dask.org/component": "scheduler"}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": _metadata(target),
        "spec": {
            "worker": {"replicas": workers, "spec": _pod([worker], plan, target)},
            "scheduler": {
                "spec": _pod([scheduler, agent], plan, target),
                "service": {
                    "type": "ClusterIP",
                    "selector": selector,
                    "ports": [
                        {"name": name, "protocol": "TCP", "port": port["containerPort"], "targetPort": name}
                        for name, port in (("tcp-comm", ports[0]), ("http-dashboard", ports[1]))
                    ],
                },
            },
        },
    }


def _metadata(target: Target) -> dict[str, Any]:
    return {"name": target.name, "namespace": target.namespace, "labels": dict(target.labels)}


def _ray_params(role: RolePlan) -> dict[str, str]:
    """`rayStartParams`: values are texts, "true" stands for a bare flag."""
    return {name: "true" if value is None else value for name, value in role.flags.items() if name not in KUBERAY_SETS}


def _template(containers: list[dict[str, Any]], target: Target) -> dict[str, Any]:
    return {"metadata": {"labels": dict(target.labels)}, "spec": _pod_spec(containers)}


def _pod_spec(containers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": containers,
    }


def _pod(containers: list[dict[str, Any]], plan: ClusterPlan, target: Target) -> dict[str, Any]:
    """With the credentials' files where the plan's environment says they are."""
    folder = _folder(plan)
    for container in containers:
        container["volumeMounts"] = [{"name": "credentials", "mountPath": folder, "readOnly": True}]
    items = [{"key": key, "path": name} for name, key in sorted(plan.files.items())]
    volume = {"name": "credentials", "secret": {"secretName": target.name, "items": items}}
    return {**_pod_spec(containers), "volumes": [volume]}


def _folder(plan: ClusterPlan) -> str:
    return plan.agent.env["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"].rpartition("/")[0]


def _container(
    name: str,
    role: RolePlan,
    plan: ClusterPlan,
    target: Target,
    *,
    command: list[str] | None = None,
    ports: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    env: list[dict[str, Any]] = [
        {"name": variable, "value": value}
        for variable, value in sorted(role.env.items())
        # KubeRay gives each pod's name here itself.
        if variable != "RAY_CLOUD_INSTANCE_ID"
    ]
    env += [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": target.name, "key": _key(key)}}}
        for variable, key in sorted(plan.secret_env.items())
    ]
    if role is plan.agent:
        env.append({"name": "MOORAGE_TOKEN", "valueFrom": {"secretKeyRef": {"name": target.name, "key": "agent"}}})
    container: dict[str, Any] = {
        "name": name,
        "image": target.image,
        "env": env,
        "resources": _resources(role.size, target.gpu_resource),
        "securityContext": RESTRICTED,
    }
    if command is not None:
        container["args"] = command
    if ports:
        container["ports"] = ports
    return container


def _key(credential: str) -> str:
    return "auth_token" if credential == "token" else credential  # the key that KubeRay asks for


def _resources(size: Size, gpu_resource: str) -> dict[str, Any]:
    amounts: dict[str, str | int] = {"cpu": f"{math.ceil(size.cpu * 1000)}m", "memory": str(size.memory)}
    limits = {**amounts, gpu_resource: size.gpu} if size.gpu else amounts
    return {"requests": amounts, "limits": limits}
