"""Projects, their builds and environments."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from moorage.wire.people import Member
from moorage.wire.workloads import FORBID


@dataclass(frozen=True, kw_only=True)
class Environment:
    digest: str
    python: str
    created_at: str
    packages: dict[str, str] = field(default_factory=dict)  # name -> version


@dataclass(frozen=True, kw_only=True)
class Build:
    id: str
    project: str
    state: str  # "queued", "building", "succeeded", "failed", "cancelled"
    digest: str | None = None
    error: str | None = None  # a sentence; the log has the rest
    started_at: str | None = None
    ended_at: str | None = None
    requested_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Project:
    id: str
    slug: str
    name: str
    role: str | None  # the caller's; None for an admin who is no member
    environment: Environment | None = None  # the current one: notebooks, clusters and new job versions use it
    build: Build | None = None  # the latest
    members: list[Member] = field(default_factory=list)
    manifest: str = ""  # the text of moorage.yaml


@dataclass(frozen=True, kw_only=True)
class ProjectRequest:
    """A new project from the text of its moorage.yaml; files follow as a tar archive (PUT .../files)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    slug: str
    manifest: str
