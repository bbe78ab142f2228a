"""Limits, what they leave, and who holds what."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from moorage.wire.workloads import FORBID, Workload

# Resources: "cpu" (cores), "memory" (bytes), "gpu" (count), "gpu:<type>", "notebooks", "clusters", "runs".

ScopeKind = Literal["everyone", "user", "group", "project", "machine"]
Sharing = Literal["each", "pool"]


@dataclass(frozen=True, kw_only=True)
class LimitRequest:
    """An admin's rule. `sharing`: each member may hold the amount, or all members share one pool of it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    scope: ScopeKind
    name: str | None = None  # of the user, group or project; None for everyone and the machine
    sharing: Sharing = "each"
    resource: str
    amount: float
    window_s: int | None = (
        None  # None: amount at once; else a budget, amount in resource-seconds, over a rolling window
    )
    why: str | None = None  # kept in the audit


@dataclass(frozen=True, kw_only=True)
class Limit:
    id: str
    scope: ScopeKind
    name: str | None
    sharing: Sharing
    resource: str
    amount: float
    window_s: int | None = None
    used: float = 0.0
    text: str = ""  # the rule in words: "ada may hold at most 1 cpu at once"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A workload that holds some of a limited resource."""

    workload: str
    kind: str
    name: str
    owner: str
    amount: float


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why an admission was refused: the rule, what is used, what was asked, and by whom it is held.

    Holders of other owners are shown to admins only; a member of a shared pool sees the amount held by others.
    """

    rule: str
    resource: str
    amount: float
    used: float
    asked: float
    held_by: list[Holder] = field(default_factory=list)
    message: str = ""  # the whole in one sentence, with what to do


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """What is left of one resource, for one user in one project, under the tightest rule that applies."""

    resource: str
    left: float
    amount: float
    used: float
    rule: str


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Who holds what now: for the admin everything, for a user their own."""

    workloads: list[Workload] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)
    capacity: dict[str, float] = field(default_factory=dict)
    remaining: list[Remaining] = field(default_factory=list)
