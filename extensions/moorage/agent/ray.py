"""Ray, asked through its control store (GCS). Works without Ray's own autoscaler, which Moorage leaves off."""

import asyncio
import logging
import platform
import socket
from typing import Any

import ray
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2

from moorage.agent.config import AgentConfig
from moorage.agent.demand import Bundle, Gang, Waiting, demand
from moorage.agent.engine import Sight
from moorage.wire import WorkerReport

log = logging.getLogger(__name__)
TIMEOUT_S = 5
HEAD_RESOURCE = "node:__internal_head__"


class RayEngine:
    """The token is read by Ray itself, from RAY_AUTH_MODE and RAY_AUTH_TOKEN."""

    def __init__(self, config: AgentConfig) -> None:
        self._address = config.address
        self._worker = config.worker
        self._client: Any = None
        self._ids: dict[str, str] = {}  # worker -> Ray's node id, in hexadecimal

    async def look(self) -> Sight:
        return await asyncio.to_thread(self._look)

    async def retire(self, names: list[str]) -> None:
        await asyncio.to_thread(self._retire, names)

    def _look(self) -> Sight:
        if self._client is None and not self._connect():
            return Sight(answers=False)
        reply = autoscaler_pb2.GetClusterStatusReply()
        reply.ParseFromString(self._client.get_cluster_status(timeout_s=TIMEOUT_S))
        state = reply.cluster_resource_state
        alive = [node for node in state.node_states if node.status in (autoscaler_pb2.RUNNING, autoscaler_pb2.IDLE)]
        workers = [node for node in alive if HEAD_RESOURCE not in node.total_resources]
        self._ids = {_name(node): node.node_id.hex() for node in workers}
        found = demand(
            self._worker,
            [dict(node.available_resources) for node in workers],
            [node.status == autoscaler_pb2.RUNNING for node in workers],
            [Waiting(bundle=dict(each.request.resources_bundle), count=each.count) for each in state.pending_resource_requests],
            [_gang(each) for each in state.pending_gang_resource_requests],
        )  # fmt: skip
        clients = self._clients()
        working = any(node.status == autoscaler_pb2.RUNNING for node in alive) or bool(
            state.pending_resource_requests or state.pending_gang_resource_requests
        )
        return Sight(
            answers=len(workers) < len(alive),  # the head itself is a node
            workers=[_report(node) for node in workers],
            wanted=found.wanted,
            clients=clients,
            idle=not working and clients == 0,
            versions={"python": platform.python_version(), "ray": ray.__version__},
            message=_impossible(found.impossible, self._worker),
        )

    def _connect(self) -> bool:
        # GcsClient waits long, and noisily, for a port where nobody listens yet.
        host, port = self._address.rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        self._client = GcsClient(self._address)
        return True

    def _clients(self) -> int:
        """Drivers that are attached; Ray's own, of its dashboard, left out."""
        jobs = self._client.get_all_job_info(timeout=TIMEOUT_S).values()
        return sum(1 for job in jobs if not job.is_dead and not job.config.ray_namespace.startswith("_ray_internal"))

    def _retire(self, names: list[str]) -> None:
        for name in names:
            node_id = self._ids.get(name)
            if node_id is None:
                continue
            # Ray refuses this reason for a node that is not idle any more: work that came meanwhile is safe.
            accepted, why = self._client.drain_node(
                node_id,
                autoscaler_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION,
                "Idle: Moorage makes the cluster smaller.",
                0,
            )
            log.info("%s is %s", name, "retired" if accepted else f"kept: {why}")


def _name(node: Any) -> str:
    """The platform's name of the node, by RAY_CLOUD_INSTANCE_ID."""
    return str(node.instance_id or node.node_id.hex()[:12])


def _report(node: Any) -> WorkerReport:
    busy = node.status == autoscaler_pb2.RUNNING
    return WorkerReport(name=_name(node), busy=busy, idle_s=0.0 if busy else node.idle_duration_ms / 1000)


def _gang(request: Any) -> Gang:
    # details: "<id of the group>:<strategy>|<state>"
    strategy = request.details.rpartition(":")[2].partition("|")[0]
    return Gang(bundles=[dict(each.resources_bundle) for each in request.requests], strategy=strategy)


def _impossible(bundles: list[Bundle], worker: Bundle) -> str | None:
    if not bundles:
        return None
    asked, offered = _words(bundles[0]), _words(worker)
    return (
        f"Waiting work asks for {asked} on one worker, but a worker here has {offered}: it can't run in this cluster."
    )


def _words(bundle: Bundle) -> str:
    parts = [
        f"{amount / (1 << 30):.3g} GiB memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in sorted(bundle.items())
        if amount
    ]
    return ", ".join(parts)
