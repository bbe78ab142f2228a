"""Ray: one head without work on it, and each worker a node of its own. Token authentication always.

Ray's own autoscaler stays off (`--no-monitor`): growing and shrinking is ours, by the agent's report.
"""

import math
from collections.abc import Mapping
from datetime import datetime

from moorage.wire import Attach, ClusterSpec, Size
from moorage.wire.clusters import EngineName
from moorage_images.minimums import is_safe
from moorage_service.clusters import credentials
from moorage_service.clusters.engines.base import agent_plan
from moorage_service.clusters.plan import HEAD, NAME, ClusterPlan, RolePlan, Site, Upstream

LEAST_STORE = 80 << 20  # Ray refuses less than 75 MiB
TRIES = "60"  # of a worker to find its head, two seconds apart; Ray's own 20 are too few on a busy machine
HEAD_STORE_SHARE, WORKER_STORE_SHARE = 0.1, 0.3
# What the head serves, one port each; `--dashboard-agent-listen-port` and the two metrics ports are fixed unless told.
TOLD_PORTS = {
    "node-manager": "node-manager-port", "object-manager": "object-manager-port", "metrics": "metrics-export-port",
    "agent-http": "dashboard-agent-listen-port", "agent-grpc": "dashboard-agent-grpc-port", "runtime-env": "runtime-env-agent-port",
}  # fmt: skip


class Ray:
    name: EngineName = "ray"
    port_names: tuple[str, ...] = ("gcs", "client", "dashboard", *TOLD_PORTS, "dashboard-metrics", "autoscaler-metrics")
    entry = ""
    least_memory = 512 << 20

    def missing(self, packages: Mapping[str, str]) -> str | None:
        version = packages.get("ray")
        remedy = "Put ray[client,default]>=2.60 under packages in moorage.yaml and build the project."
        if version is None:
            return f"The project's environment has no Ray. {remedy}"
        if not is_safe("ray", version):
            return f"The project's environment has Ray {version}, which can't keep strangers out. {remedy}"
        if not self.has_dashboard(packages):
            return f"The project's environment has Ray without its dashboard. {remedy}"
        return None

    def has_dashboard(self, packages: Mapping[str, str]) -> bool:
        return "aiohttp-cors" in packages  # comes with ray[default]

    def credentials(self, cluster_id: str, hosts: tuple[str, ...], now: datetime) -> dict[str, str]:  # noqa: ARG002
        return {"token": credentials.token()}

    def plan(self, spec: ClusterSpec, head: Size, site: Site) -> ClusterPlan:
        address = f"{site.host}:{site.ports['gcs']}"
        offer = worker_offer(spec.worker)
        env = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        return ClusterPlan(
            spec=spec,
            head=RolePlan(program=("ray", "start"), flags=_head_flags(head, site), env={**env, **_head_env(site)}, size=head),
            worker=RolePlan(
                program=("ray", "start"), flags=_worker_flags(spec.worker, address, offer, site),
                env={**env, "RAY_CLOUD_INSTANCE_ID": NAME, "RAY_NUM_REDIS_GET_RETRIES": TRIES}, size=spec.worker,
            ),
            agent=agent_plan("ray", spec, address, offer, [site.ports["client"], site.ports["dashboard"]], env),
            ports=dict(site.ports),
            secret_env={"RAY_AUTH_TOKEN": "token"},
        )  # fmt: skip

    def attach(self, site: Site, credentials: Mapping[str, str], versions: dict[str, str]) -> Attach:
        return Attach(
            engine="ray",
            address=f"{site.host}:{site.ports['gcs']}",
            client_address=f"ray://{site.host}:{site.ports['client']}",
            probe_url=f"http://{site.host}:{site.ports['dashboard']}",
            token=credentials["token"],
            versions=versions,
        )

    def dashboard(self, site: Site, credentials: Mapping[str, str]) -> Upstream:
        # The interface uses relative paths only, so it knows of no prefix.
        return Upstream(
            root=f"http://{site.host}:{site.ports['dashboard']}",
            headers={"X-Ray-Authorization": f"Bearer {credentials['token']}"},
        )


def store_of(size: Size, share: float) -> int:
    return max(LEAST_STORE, int(size.memory * share))


def worker_offer(worker: Size) -> dict[str, float]:
    """What one worker offers to tasks, as Ray counts it: whole cores, so that a task of one core fits half a core, too."""
    offer: dict[str, float] = {
        "CPU": max(1, math.ceil(worker.cpu)),
        "memory": worker.memory - store_of(worker, WORKER_STORE_SHARE),
    }
    if worker.gpu:
        offer["GPU"] = worker.gpu
    return offer


def _head_flags(head: Size, site: Site) -> dict[str, str | None]:
    store = store_of(head, HEAD_STORE_SHARE)
    flags: dict[str, str | None] = {
        "head": None, "block": None, "no-monitor": None, "disable-usage-stats": None, "include-dashboard": "true",
        "num-cpus": "0", "num-gpus": "0", "memory": str(head.memory - store), "object-store-memory": str(store),
        "port": str(site.ports["gcs"]), "ray-client-server-port": str(site.ports["client"]),
        "dashboard-host": site.bind, "dashboard-port": str(site.ports["dashboard"]),
    }  # fmt: skip
    if site.shared:
        flags |= {flag: str(site.ports[name]) for name, flag in TOLD_PORTS.items()}
        # Any free ones for processes: Ray's default range of 10002-19999 is one for the whole machine.
        flags |= {"min-worker-port": "0", "max-worker-port": "0", "temp-dir": f"{site.folder}/r"}
    return flags


def _head_env(site: Site) -> dict[str, str]:
    env = {"RAY_CLOUD_INSTANCE_ID": HEAD, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    if site.shared:
        env["DASHBOARD_METRIC_PORT"] = str(site.ports["dashboard-metrics"])
        env["AUTOSCALER_METRIC_PORT"] = str(site.ports["autoscaler-metrics"])
    return env


def _worker_flags(worker: Size, address: str, offer: Mapping[str, float], site: Site) -> dict[str, str | None]:
    flags: dict[str, str | None] = {
        "address": address, "block": None, "disable-usage-stats": None,
        "num-cpus": str(int(offer["CPU"])), "num-gpus": str(worker.gpu), "memory": str(int(offer["memory"])),
        "object-store-memory": str(store_of(worker, WORKER_STORE_SHARE)),
    }  # fmt: skip
    if site.shared:
        flags |= dict.fromkeys(TOLD_PORTS.values(), "0") | {"min-worker-port": "0", "max-worker-port": "0"}
    return flags
