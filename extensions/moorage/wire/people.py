"""Users, members of projects, and secrets."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from moorage.wire.workloads import FORBID

Role = Literal["viewer", "editor", "owner"]


@dataclass(frozen=True, kw_only=True)
class User:
    id: str
    name: str
    admin: bool
    groups: list[str] = field(default_factory=list)
    uid: int | None = None
    active: bool = True


@dataclass(frozen=True, kw_only=True)
class Me:
    """The caller: who the service takes them for, and by what kind of credential."""

    user: User
    via: str  # "session", "hub", "workload"
    version: str  # of the service


@dataclass(frozen=True, kw_only=True)
class Member:
    user: str
    role: Role


@dataclass(frozen=True, kw_only=True)
class MemberRequest:
    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    role: Role


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A named value's existence. The value is written, never read back."""

    name: str
    scope: Literal["user", "project"]
    updated_at: str


@dataclass(frozen=True, kw_only=True)
class SecretRequest:
    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    value: str
