"""What every part of the service is given: settings, store, processes, clock, keys, the hub. Made once, in `main`."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from moorage_service.clock import Clock, utc_now
from moorage_service.identity.hub import HubClient
from moorage_service.identity.rates import RateLimits
from moorage_service.identity.vault import Vault
from moorage_service.ledger.inventory import Capacity, measure, of_cluster
from moorage_service.platforms import PLATFORMS, Platform
from moorage_service.reconciler.leadership import Leadership
from moorage_service.reconciler.wakeup import Wakeup
from moorage_service.settings import Settings
from moorage_service.store.database import Database
from moorage_service.watch.heartbeats import Heartbeats
from moorage_spawners.launch import LocalProcesses, Processes, proxy_pods
from moorage_spawners.launch.proxy_pods import AddressOf

if TYPE_CHECKING:  # one machine loads no client of a cluster
    from moorage_spawners.launch.pod_processes import PodProcesses


@dataclass(kw_only=True)
class Context:
    settings: Settings
    database: Database
    machine: LocalProcesses  # the processes of this machine; none where all workloads are pods
    pods: "PodProcesses | None" = None  # on Kubernetes
    vault: Vault
    hub: HubClient
    capacity: Capacity
    clock: Clock = utc_now
    started_at: datetime = field(default_factory=utc_now)  # of this process: before, nobody could be heard
    wakeup: Wakeup = field(default_factory=Wakeup)  # wakes the reconciler when something changed
    no_wall: str | None = "It is raised as the service starts."  # why users' ports are not walled off; None: they are
    heartbeats: Heartbeats = field(default_factory=Heartbeats)  # of this process's loops
    others_homes: dict[str, datetime] = field(default_factory=dict)  # namespace -> when somebody's home was met in it
    rates: RateLimits = field(init=False)  # who asked for what, how often
    address_of: AddressOf = field(init=False)

    leadership: Leadership = field(init=False)  # whether this process is the one that acts

    def __post_init__(self) -> None:
        self.leadership = Leadership(
            self.database, self.clock, self.wakeup, self.machine.root / "fence", self.settings.lease_s
        )
        self.processes.guard = self.leadership.require
        self.machine.guard = self.leadership.require
        self.rates = RateLimits(self.settings.rates)
        kubernetes = self.settings.kubernetes
        self.address_of = proxy_pods.chosen(self.settings.platform, kubernetes.proxy_pods if kubernetes else "")

    @property
    def platform(self) -> Platform:
        return PLATFORMS[self.settings.platform]

    def came_from(self, connection: HTTPConnection) -> str | None:
        """The address of a browser, or of whoever called directly; None: a program of this machine."""
        forwarded = ",".join(connection.headers.getlist("x-forwarded-for"))
        client, server = connection.scope.get("client"), connection.scope.get("server")
        return self.address_of(forwarded, client, server, self.settings.trusted_proxies)

    @property
    def advisory(self) -> str | None:
        """Why sizes are advisory here; None where they bind."""
        return self.machine.limits_enforced() if self.pods is None else None

    def forget(self, workload_id: str, *, long_ended: bool = False) -> None:
        """What is left of a workload that is gone, and what this machine keeps about it.

        `long_ended`: who ended it has tidied up behind it; the cluster is asked only about what is seen there all the same.
        """
        if not (long_ended and self.pods is not None and self.pods.drop(workload_id)):
            self.processes.forget(workload_id)
        if self.pods is not None:
            self.machine.forget(workload_id)

    @property
    def processes(self) -> Processes:
        """Where workloads run here."""
        return self.machine if self.pods is None else self.pods


def make_context(settings: Settings) -> Context:
    """Opens the store and reads the keys. Raises OSError with the path when the state folder can't be used."""
    _make_folders(settings.state)
    database = Database(settings.sqlalchemy_url)
    database.migrate()
    wakeup = Wakeup()
    return Context(
        settings=settings,
        database=database,
        wakeup=wakeup,
        pods=pods_of(settings, database, wakeup),
        machine=LocalProcesses(settings.state / "workloads"),
        vault=Vault.open(settings.secrets / "vault-key"),
        hub=HubClient(settings.hub_api_url, settings.secrets / "service-to-hub", cache_s=settings.hub_token_cache_s),
        capacity=capacity_of(settings),
    )


def capacity_of(settings: Settings) -> Capacity:
    if settings.kubernetes is None:
        return measure(settings.inventory)
    return of_cluster(settings.inventory, settings.kubernetes.gpu_types)


def pods_of(settings: Settings, database: Database, wakeup: Wakeup) -> "PodProcesses | None":
    if settings.kubernetes is None:
        return None
    from moorage_service.notebooks.namespaces import Namespaces
    from moorage_spawners.launch.pod_processes import PodProcesses

    of = settings.kubernetes
    return PodProcesses(
        of.managed_by,
        of.namespaces,
        of.pod_settings(),
        namespace_of=Namespaces(database).of_workload,
        changed=wakeup.notify,
        timing=of.watch.timing(),
        stale_after_s=of.watch.stale_s,
    )


def _make_folders(state: Path) -> None:
    """What only the service reads, and what every user's uid must be able to walk through; whatever our umask is."""
    modes = dict.fromkeys(("secrets", "database", "logs", "workloads", "snapshots", "outputs"), 0o700)
    modes |= dict.fromkeys(("environments", "homes", "scratch"), 0o755)
    if not state.exists():
        state.mkdir(parents=True)
        state.chmod(0o755)
    for name, mode in modes.items():
        (state / name).mkdir(exist_ok=True)
        (state / name).chmod(mode)


def current_context(connection: HTTPConnection) -> Context:
    return cast(Context, connection.app.state.context)


Ctx = Annotated[Context, Depends(current_context)]
