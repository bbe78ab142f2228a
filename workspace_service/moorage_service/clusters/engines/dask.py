"""Dask: a scheduler and workers, over TLS with a CA of the cluster's own.

Certificates are named by Dask's own settings in the environment, so that whatever runs inside (the agent, a task that
makes a client) is a member, too. Each worker has a nanny: it holds the memory limit where control groups do not, and
`client.restart()` needs it; the platform ends both as a tree.
"""

import math
from collections.abc import Mapping
from datetime import datetime

from moorage.wire import Attach, ClusterSpec, Size
from moorage.wire.clusters import EngineName
from moorage_images.minimums import is_safe
from moorage_service.clusters import credentials
from moorage_service.clusters.engines.base import agent_plan
from moorage_service.clusters.plan import NAME, ClusterPlan, RolePlan, Site, Upstream

FILES = {"ca.pem": "ca", "cert.pem": "cert", "key.pem": "key"}
DEATH_TIMEOUT_S = 60  # a worker that can't find its scheduler for so long ends by itself


class Dask:
    name: EngineName = "dask"
    port_names: tuple[str, ...] = ("scheduler", "dashboard")
    entry = "status"
    least_memory = 256 << 20

    def missing(self, packages: Mapping[str, str]) -> str | None:
        version = packages.get("distributed")
        remedy = "Put dask[complete]>=2026.8 under packages in moorage.yaml and build the project."
        if version is None:
            return f"The project's environment has no Dask (the package distributed). {remedy}"
        if not is_safe("distributed", version):
            return f"The project's environment has distributed {version}, whose dashboard is unsafe. {remedy}"
        return None

    def has_dashboard(self, packages: Mapping[str, str]) -> bool:
        return "bokeh" in packages

    def credentials(self, cluster_id: str, hosts: tuple[str, ...], now: datetime) -> dict[str, str]:
        return credentials.certificates(cluster_id, hosts, now)

    def plan(self, spec: ClusterSpec, head: Size, site: Site) -> ClusterPlan:
        address = _address(site)
        env = _tls_env(site.folder)
        scheduler: dict[str, str | None] = {
            "protocol": "tls", "host": site.bind, "port": str(site.ports["scheduler"]),
            "dashboard-address": f"{site.bind}:{site.ports['dashboard']}", "dashboard-prefix": site.prefix.strip("/"),
        }  # fmt: skip
        threads = max(1, math.floor(spec.worker.cpu))
        worker: dict[str, str | None] = {
            "name": NAME, "nworkers": "1", "nthreads": str(threads), "memory-limit": str(spec.worker.memory),
            "nanny": None, "no-dashboard": None, "death-timeout": str(DEATH_TIMEOUT_S), "local-directory": f"{site.folder}/dask",
        }  # fmt: skip
        if site.shared:
            worker["host"] = site.bind
            # A worker without a dashboard still serves HTTP, without any credential, on all interfaces unless it is told.
            worker["dashboard-address"] = f"{site.bind}:0"
        if spec.worker.gpu:
            worker["resources"] = f"GPU={spec.worker.gpu}"
        offer = {"CPU": float(threads), "memory": float(spec.worker.memory)}
        return ClusterPlan(
            spec=spec,
            head=RolePlan(program=("dask", "scheduler"), flags=scheduler, env=env, size=head),
            worker=RolePlan(program=("dask", "worker"), arguments=(address,), flags=worker, env=env, size=spec.worker),
            agent=agent_plan("dask", spec, address, offer, [site.ports["dashboard"]], env),
            ports=dict(site.ports),
            files=FILES,
        )

    def attach(self, site: Site, credentials: Mapping[str, str], versions: dict[str, str]) -> Attach:
        return Attach(
            engine="dask",
            address=_address(site),
            tls_ca=credentials["ca"],
            tls_cert=credentials["cert"],
            tls_key=credentials["key"],
            versions=versions,
        )

    def dashboard(self, site: Site, credentials: Mapping[str, str]) -> Upstream:  # noqa: ARG002
        # Its pages name absolute paths, so it is told its prefix and serves below it.
        return Upstream(root=f"http://{site.host}:{site.ports['dashboard']}", prefix=site.prefix)


def _address(site: Site) -> str:
    return f"tls://{site.host}:{site.ports['scheduler']}"


def _tls_env(folder: str) -> dict[str, str]:
    base = "DASK_DISTRIBUTED__COMM__"
    env = {f"{base}REQUIRE_ENCRYPTION": "True", f"{base}TLS__CA_FILE": f"{folder}/ca.pem"}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        env[f"{base}TLS__{role}__CERT"] = f"{folder}/cert.pem"
        env[f"{base}TLS__{role}__KEY"] = f"{folder}/key.pem"
    return env
