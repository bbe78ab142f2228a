"""The wire types: what the service, the client, the spawners and the agents say to each other.

Frozen dataclasses without any dependency, so that they are the same in a kernel of an old environment
and in the service of today. FastAPI serves them, the client parses them (`moorage.wire.codec`).

Requests carry `__pydantic_config__ = {"extra": "forbid"}`: an unknown field is refused. Responses are read
tolerantly: unknown fields are ignored, so `/api/v1` may grow.

Units: cpu in cores, memory in bytes, durations in seconds, times as ISO 8601 text in UTC ("2026-11-21T06:00:00Z").
"""

from moorage.wire.audit import AuditEntry
from moorage.wire.clusters import (
    AgentOrders,
    AgentReport,
    Attach,
    Cluster,
    ClusterChange,
    ClusterOptions,
    ClusterRequest,
    ClusterSpec,
    EngineOptions,
    WorkerReport,
)
from moorage.wire.health import Disk, Health, Loop, Part
from moorage.wire.jobs import (
    CellProgress,
    Inspection,
    Job,
    JobVersion,
    Parameter,
    PromoteRequest,
    Run,
    RunProgress,
    RunRequest,
    Schedule,
    SchedulePreview,
    SnapshotFile,
)
from moorage.wire.limits import Holder, Limit, LimitRequest, Refusal, Remaining, Usage
from moorage.wire.people import Me, Member, MemberRequest, Secret, SecretRequest, User
from moorage.wire.projects import Build, Environment, Project, ProjectRequest
from moorage.wire.use import Use, UseLine
from moorage.wire.workloads import (
    Event,
    Notebook,
    NotebookAdmission,
    NotebookCondition,
    NotebookForgotten,
    NotebookObservation,
    NotebookRequest,
    Phase,
    PodPlace,
    Size,
    Workload,
    WorkloadKind,
)

__all__ = [
    "AgentOrders", "AgentReport", "Attach", "AuditEntry", "Build", "CellProgress", "Cluster", "ClusterChange", "ClusterOptions",
    "ClusterRequest", "ClusterSpec", "Disk", "EngineOptions", "Environment", "Event", "Health", "Holder", "Inspection",
    "Job", "JobVersion", "Limit", "LimitRequest", "Loop", "Me", "Member", "MemberRequest", "Notebook",
    "NotebookAdmission", "NotebookCondition", "NotebookForgotten", "NotebookObservation", "NotebookRequest", "Parameter", "Part", "Phase",
    "PodPlace",
    "Project", "ProjectRequest", "PromoteRequest", "Refusal", "Remaining", "Run", "RunProgress", "RunRequest",
    "Schedule", "SchedulePreview", "Secret", "SecretRequest", "Size", "SnapshotFile", "Usage", "Use", "UseLine", "User",
    "WorkerReport", "Workload", "WorkloadKind",
]  # fmt: skip
