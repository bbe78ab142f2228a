"""Jobs: promoted notebooks, their versions, schedules and runs."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from moorage.wire.clusters import ClusterSpec
from moorage.wire.workloads import FORBID, Event, Size, Workload

Missed = Literal["skip", "run_latest", "run_all"]
Overlap = Literal["forbid", "queue", "allow", "replace"]
ParameterType = Literal["str", "int", "float", "bool", "list", "dict", "any"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a notebook, read from its `parameters` cell."""

    name: str
    type: ParameterType
    default: Any = None
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a job fires: five cron fields in a time zone. Day 0 of the week is Sunday."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    cron: str
    timezone: str = "UTC"
    missed: Missed = "run_latest"
    overlap: Overlap = "forbid"
    paused: bool = False


@dataclass(frozen=True, kw_only=True)
class SchedulePreview:
    words: str  # "At 06:00 every day"
    next: list[str]  # the next five fire times, with their offsets
    warning: str | None = None  # a change of clocks within the next year touches it


@dataclass(frozen=True, kw_only=True)
class SnapshotFile:
    """A file of a source snapshot: path below the notebook's folder, content in base64."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    path: str
    content: str


@dataclass(frozen=True, kw_only=True)
class PromoteRequest:
    """A notebook and the files beside it that it needs. An unchanged source, environment and spec makes no new
    version.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    project: str | None = None  # None: the project of the calling notebook
    name: str | None = None  # None: the notebook's file name without its ending
    notebook: str  # path of the notebook among the files
    files: list[SnapshotFile]
    parameters: dict[str, Any] = field(default_factory=dict)  # defaults that override the notebook's own
    schedule: Schedule | None = None  # None: keeps the job's present schedule
    # Each run gets a fresh one of its own. None: the project's default for the engine that the notebook attaches to, if
    # any.
    cluster: ClusterSpec | None = None
    size: Size | None = None  # of the run itself; None: the service's default
    secrets: list[str] = field(default_factory=list)  # names of project or user secrets that the run may see
    timeout_s: int | None = None
    git_commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a PromoteRequest would make: nothing is written."""

    name: str
    notebook: str
    files: list[str]
    parameters: list[Parameter]
    source: str  # digest of the snapshot
    new_job: bool
    new_version: bool
    cluster: ClusterSpec | None = None  # of each run: as asked, else by the notebook's own moorage.attach()
    schedule: SchedulePreview | None = None


@dataclass(frozen=True, kw_only=True)
class JobVersion:
    id: str
    number: int
    state: Literal["proposed", "approved", "active", "retired"]
    notebook: str
    files: list[str]
    source: str  # digest of the snapshot
    environment: str  # digest
    parameters: list[Parameter]
    cluster: ClusterSpec | None
    size: Size
    secrets: list[str] = field(default_factory=list)
    timeout_s: int | None = None
    git_commit: str | None = None
    created_by: str
    created_at: str


@dataclass(frozen=True, kw_only=True)
class Job:
    id: str
    name: str
    project: str
    stage: Literal["prototype", "staging", "production"]
    run_as: str  # a user's name
    schedule: Schedule | None = None
    schedule_words: str | None = None
    next_fire_at: str | None = None
    version: JobVersion | None = None  # the active one
    versions: list[JobVersion] = field(default_factory=list)
    last_run: "Run | None" = None


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    parameters: dict[str, Any] = field(default_factory=dict)
    version: int | None = None  # None: the active one


@dataclass(frozen=True, kw_only=True)
class CellProgress:
    index: int
    state: Literal["pending", "running", "completed", "failed"]
    source: str  # its first line
    started_at: str | None = None
    ended_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """Sent by the runner with the run's own token. `sequence` grows; an older report is ignored."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    sequence: int
    cells: list[CellProgress]
    error_name: str | None = None
    error_value: str | None = None
    error_cell: int | None = None
    traceback: str | None = None  # plain text, bounded


@dataclass(frozen=True, kw_only=True)
class Run(Workload):
    job: str
    version: int
    trigger: Literal["schedule", "manual"]
    scheduled_for: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    cluster: str | None = None  # id of its own cluster
    cells: list[CellProgress] = field(default_factory=list)
    error_name: str | None = None
    error_value: str | None = None
    error_cell: int | None = None
    traceback: str | None = None
    exit_code: int | None = None
    outputs: list[str] = field(
        default_factory=list
    )  # names under .../outputs/: "notebook.ipynb", "notebook.html", "run.log"
    events: list[Event] = field(default_factory=list)
