"""What every engine does, and what their plans share."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from moorage.wire import Attach, ClusterSpec, Size
from moorage.wire.clusters import EngineName
from moorage_service.clusters.plan import ClusterPlan, RolePlan, Site, Upstream

AGENT_SIZE = Size(cpu=0.5, memory=512 << 20)  # the platform's own overhead, beside what the cluster holds


class Engine(Protocol):
    name: EngineName
    port_names: tuple[str, ...]
    entry: str  # the dashboard's first page, below its prefix
    least_memory: int  # bytes, of a head or worker

    def missing(self, packages: Mapping[str, str]) -> str | None:
        """None when an environment with these packages can run it, else a sentence with the remedy."""
        ...

    def has_dashboard(self, packages: Mapping[str, str]) -> bool: ...

    def credentials(self, cluster_id: str, hosts: tuple[str, ...], now: datetime) -> dict[str, str]: ...

    def plan(self, spec: ClusterSpec, head: Size, site: Site) -> ClusterPlan: ...

    def attach(self, site: Site, credentials: Mapping[str, str], versions: dict[str, str]) -> Attach: ...

    def dashboard(self, site: Site, credentials: Mapping[str, str]) -> Upstream: ...


def agent_plan(
    engine: EngineName,
    spec: ClusterSpec,
    address: str,
    worker: Mapping[str, float],
    ports: list[int],
    env: Mapping[str, str],
) -> RolePlan:
    """The agent, beside the head. Where the service is and the token come from the platform."""
    told = {
        "MOORAGE_AGENT_ENGINE": engine,
        "MOORAGE_AGENT_ADDRESS": address,
        "MOORAGE_AGENT_MIN_WORKERS": str(spec.min_workers),
        "MOORAGE_AGENT_WORKER": json.dumps(dict(worker)),
        "MOORAGE_AGENT_PORTS": ",".join(map(str, ports)),
    }
    return RolePlan(program=("moorage-agent",), env={**env, **told}, size=AGENT_SIZE)
