"""What every platform does with a plan. Every verb may be repeated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from moorage_service.clusters.plan import ClusterPlan, RolePlan, Site
from moorage_spawners.launch import Identity


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is seen of one role. `gone`: nothing of it is left, for certain. `how`: how it ended, in words."""

    role: str
    gone: bool
    lost: bool = False  # unobserved from now on: stopping it makes it gone
    out_of_memory: bool = False
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A cluster to carry out: its plan, whose it is, and the values of what the plan only names."""

    cluster_id: str
    generation: int
    plan: ClusterPlan
    environment: str  # digest
    identity: Identity
    credentials: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)  # of every process: who it belongs to
    secrets: Mapping[str, str] = field(default_factory=dict)  # the user's, for head and workers
    labels: Mapping[str, str] = field(default_factory=dict)  # on every process: what a lost database is made anew from


class Platform(Protocol):
    def site(self, cluster_id: str, ports: Mapping[str, int]) -> Site: ...

    def observe(self, cluster_id: str) -> list[Seen]: ...

    def start(self, order: Order, role: str, plan: RolePlan, devices: Sequence[str]) -> None:
        """Raises moorage_spawners.launch.LaunchError with a sentence for the owner."""
        ...

    def stop(self, cluster_id: str, role: str | None = None) -> None:
        """Asks a role, or all, to end; returns at once."""
        ...

    def log(self, cluster_id: str) -> str:
        """What head, agent and workers wrote; also after the cluster has ended."""
        ...

    def tail(self, cluster_id: str, role: str) -> str:
        """The last few lines of one role."""
        ...

    def forget(self, cluster_id: str, role: str) -> None:
        """Drops the record and log of a role that is gone."""
        ...

    def clear(self, cluster_id: str) -> None:
        """Once nothing of it is left: keeps its log, removes the rest."""
        ...
