"""Clusters: what is asked, what runs, how to attach, and what the agent reports."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from moorage.wire.limits import Remaining
from moorage.wire.workloads import FORBID, Event, Size, Workload

EngineName = Literal["ray", "dask"]
OnNotebookEnd = Literal["stop", "keep"]


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """A cluster's shape. It is admitted at its maximum: head + max_workers x worker."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    engine: EngineName
    min_workers: int = 1
    max_workers: int = 1
    worker: Size
    head: Size | None = None  # None: the service's default head size


@dataclass(frozen=True, kw_only=True)
class ClusterRequest:
    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    project: str | None = None  # None: the project of the calling notebook
    name: str | None = None  # None: one is made from the engine
    spec: ClusterSpec
    on_notebook_end: OnNotebookEnd | None = None  # None: "stop" when a notebook asks, else "keep"


@dataclass(frozen=True, kw_only=True)
class ClusterChange:
    """What to change about when a cluster ends by itself; what is None stays as it is.

    `keep_for_s`: nothing but its owner, an admin or its own failure ends it for so many seconds from now; 0 takes that back.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    on_notebook_end: OnNotebookEnd | None = None
    keep_for_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster(Workload):
    spec: ClusterSpec
    environment: str | None = None
    workers: int = 0  # alive now
    target_workers: int = 0  # wanted now by the scale rule
    versions: dict[str, str] = field(default_factory=dict)  # python, ray or distributed, as the agent saw them
    dashboard: str | None = None  # path below the origin
    on_notebook_end: OnNotebookEnd = "keep"
    keep_until: str | None = None  # until then no clock ends it
    stops_at: str | None = None  # when a clock will end it, once that is near
    stops_why: str | None = None  # which clock, and the signal that it goes by
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Attach:
    """How a driver connects. Given to the owner's workloads only; holds credentials, never shown on a page."""

    engine: EngineName
    address: str  # ray: host:port of the GCS for a native driver; dask: tls://host:port
    client_address: str | None = None  # ray: ray://host:port
    probe_url: str | None = None  # ray: the dashboard's own address, for the pre-flight
    token: str | None = None  # ray
    tls_ca: str | None = None  # dask: PEM text
    tls_cert: str | None = None
    tls_key: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    engine: EngineName
    available: bool
    why_not: str | None = None  # when the project's environment lacks the engine: a sentence with the remedy
    default: ClusterSpec | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Bounds, defaults and what is left, for the sizing widget and the portal's form."""

    engines: list[EngineOptions]
    head: Size  # what the head itself takes
    max_workers: int
    max_worker: Size
    gpu_types: list[str] = field(default_factory=list)
    remaining: list[Remaining] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    name: str
    busy: bool
    idle_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AgentReport:
    """What the agent saw, over HTTP with the cluster's own token, about once a second.

    `wanted` is how many workers the queued and running work could use now, unbounded.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    generation: int
    ready: bool
    versions: dict[str, str] = field(default_factory=dict)
    workers: list[WorkerReport] = field(default_factory=list)
    wanted: int = 0
    clients: int = 0
    idle_s: float | None = None  # for how long there was neither work nor a client; None: the agent can't tell
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class AgentOrders:
    """The service's answer: names of idle workers to retire. The agent confirms by reporting without them.

    `token`: what it is to report with from now on; the one it used is about to end.
    """

    retire: list[str] = field(default_factory=list)
    interval_s: float = 1.0
    token: str | None = None
