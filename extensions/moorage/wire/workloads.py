"""Anything that holds resources: notebooks, clusters, runs."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

FORBID: dict[str, Any] = {"extra": "forbid"}


class WorkloadKind(StrEnum):
    NOTEBOOK = "notebook"
    CLUSTER = "cluster"
    RUN = "run"


class Phase(StrEnum):
    """Where a workload is. Notebooks and clusters pass pending, starting, ready; a run is `running` instead of ready."""

    QUEUED = "queued"  # a run that waits for room under a limit
    PENDING = "pending"  # admitted: it holds its reservation; nothing was started yet
    STARTING = "starting"  # processes exist; not usable yet
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"  # gone as asked, or gone by itself in good order
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # a fire that the overlap or missed-fire policy left out, with its reason

    @property
    def ended(self) -> bool:
        return self in _ENDED


_ENDED = frozenset({Phase.STOPPED, Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.SKIPPED})


@dataclass(frozen=True, kw_only=True)
class Size:
    """What one machine of a workload gets: cpu in cores, memory in bytes, gpu as a count of one type."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    cpu: float
    memory: int
    gpu: int = 0
    gpu_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a workload's history, in words its owner understands."""

    at: str
    code: str  # stable, dotted: "cluster.ready", "limit.refused"
    message: str
    actor: str | None = None  # a user's name, or None when Moorage did it


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What every workload shows, whatever its kind."""

    id: str
    kind: WorkloadKind
    name: str
    owner: str
    project: str
    phase: Phase
    reason_code: str | None = None
    reason: str | None = None
    holds: dict[str, float] = field(default_factory=dict)  # resource -> amount, while its reservation lives
    created_at: str
    ready_at: str | None = None
    ended_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Notebook(Workload):
    size: Size
    environment: str | None = None  # digest
    url: str | None = None  # path of the running server, below the origin
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class NotebookRequest:
    """Sent by the spawner for a user, before anything starts. `server` is the hub's server name (the project's slug)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    user: str
    admin: bool
    groups: list[str] = field(default_factory=list)
    project: str
    size: Size
    fresh: bool = False  # a server of this notebook that still runs is to end, not to be taken over


@dataclass(frozen=True, kw_only=True)
class NotebookForgotten:
    """Sent by the hub after its restart: it had asked for this notebook, and does not know what was answered."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    user: str
    project: str


@dataclass(frozen=True, kw_only=True)
class PodPlace:
    """Where a notebook's pod is to start on Kubernetes: all of it is there, made by the service, which alone has the rights for it."""

    namespace: str
    image: str  # the notebook image with the project's environment on it, by digest
    home_claim: str  # the PersistentVolumeClaim of the user's home
    secret_name: str  # the Secret that holds the values of `secret_variables`
    secret_variables: dict[str, str]  # variable -> its key there; among them MOORAGE_TOKEN
    owner: str  # what never changes about the user, for the pod's labels


@dataclass(frozen=True, kw_only=True)
class NotebookAdmission:
    """The answer to an admitted NotebookRequest: everything the spawner needs to start the server.

    `runs`: it was started before, and still runs, though the hub does not know it: to be taken over. Its `token` is empty then, for
    the server has it.
    """

    workload_id: str
    generation: int
    token: str  # the workload's own bearer token for the service
    project: str
    environment: str  # digest
    environment_path: str  # folder of the project environment, readable by every user
    project_files: (
        str | None
    )  # a tar archive with the project's files, readable by the spawner; copied into the home once
    home: str  # the user's home folder; it exists, 0700
    uid: int | None  # None: the service's own uid (not root)
    gid: int | None
    gpu_devices: list[str] = field(default_factory=list)  # what CUDA_VISIBLE_DEVICES names
    environment_variables: dict[str, str] = field(default_factory=dict)  # the secrets the user may see, by name
    runs: bool = False
    pod: PodPlace | None = None  # on Kubernetes; there `token`, `environment_variables` and `project_files` are empty


@dataclass(frozen=True, kw_only=True)
class NotebookCondition:
    """What a notebook server in a pod notices of itself, and its cluster does not: reported when it changes.

    `out_of_memory`: how many of its programs were ended for want of memory since it began; `home_full`: nothing more fits into the home.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    out_of_memory: int = 0
    home_full: bool = False


@dataclass(frozen=True, kw_only=True)
class NotebookObservation:
    """What the spawner saw of its server. A hint: the service looks at the shim's record before it believes 'gone'."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    state: str  # "starting", "ready", "failed", "gone"
    message: str | None = None
    url: str | None = None
