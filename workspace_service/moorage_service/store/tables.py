"""The tables. A workload's row says what should be (`target`) and what was last seen (`phase`, `reason`).

Ids are short random names with a prefix ("cl-4k2j..."), valid as file and Kubernetes names. Times are aware UTC datetimes.
Amounts are integers: cpu in thousandths of a core, memory in bytes, everything else as counts.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_id(prefix: str) -> str:
    """`prefix` + 12 random characters, about 59 bits."""
    return f"{prefix}-" + "".join(secrets.choice(_ALPHABET) for _ in range(12))


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime on every database (SQLite forgets zones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers its rows by INTEGER keys only.
Counter = BigInteger().with_variant(Integer, "sqlite")


# Every constraint has a name, so that a migration can speak of it, on SQLite as well.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {datetime: Moment, dict[str, Any]: JSON, list[Any]: JSON}


class UserRow(Table):
    """A person. `hub_name` is how the hub calls them now; `id` never changes and is never given twice."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("us"))
    hub_name: Mapped[str] = mapped_column(String(255), unique=True)
    admin: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    groups: Mapped[list[Any]] = mapped_column(default=list)
    uid: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]  # since when `active` is False
    namespace: Mapped[str | None] = mapped_column(
        String(63), unique=True, index=True
    )  # on Kubernetes, from the first workload on


class SessionRow(Table):
    """A browser's session with the portal. The hub token is kept encrypted; the cookie's hash is the key."""

    __tablename__ = "sessions"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    hub_token: Mapped[bytes]
    expires_at: Mapped[datetime]


class ProjectRow(Table):
    __tablename__ = "projects"
    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("pr"))
    slug: Mapped[str] = mapped_column(String(30), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    manifest: Mapped[str] = mapped_column(Text)  # the text of moorage.yaml
    files: Mapped[str | None] = mapped_column(String(80))  # digest of the archive of its files
    open_to_all: Mapped[bool] = mapped_column(default=False)  # every user is an editor: the starter
    environment: Mapped[str | None] = mapped_column(String(80))  # digest of the current one
    created_by: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]  # kept for the history of its workloads; its slug is free again


class MemberRow(Table):
    __tablename__ = "members"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(10))  # viewer, editor, owner


class EnvironmentRow(Table):
    __tablename__ = "environments"
    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    python: Mapped[str] = mapped_column(String(20))
    packages: Mapped[dict[str, Any]] = mapped_column(default=dict)
    lock: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    image: Mapped[str | None] = mapped_column(
        String(400)
    )  # on Kubernetes: registry/path@sha256:..., on the notebook image
    base: Mapped[str | None] = mapped_column(String(400))  # the notebook image that it lies on, by digest


class BuildRow(Table):
    __tablename__ = "builds"
    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("bu"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    state: Mapped[str] = mapped_column(String(12), default="queued", index=True)
    manifest: Mapped[str] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(String(80))
    error: Mapped[str | None] = mapped_column(Text)
    requested_by: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class SecretRow(Table):
    """A named value, encrypted. `scope_id` is a user's or a project's id."""

    __tablename__ = "secrets"
    scope: Mapped[str] = mapped_column(String(10), primary_key=True)
    scope_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    sealed: Mapped[bytes]
    updated_at: Mapped[datetime]


class WorkloadRow(Table):
    __tablename__ = "workloads"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), index=True)
    name: Mapped[str] = mapped_column(String(100))
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    parent_id: Mapped[str | None] = mapped_column(
        ForeignKey("workloads.id"), index=True
    )  # the run that a cluster serves
    target: Mapped[str] = mapped_column(String(10), default="running")  # running, gone
    phase: Mapped[str] = mapped_column(String(12), index=True)
    reason_code: Mapped[str | None] = mapped_column(String(60))
    reason: Mapped[str | None] = mapped_column(Text)
    generation: Mapped[int] = mapped_column(default=1)
    environment: Mapped[str | None] = mapped_column(String(80))
    details: Mapped[dict[str, Any]] = mapped_column(
        default=dict
    )  # what the kind keeps beside: a notebook's size and url
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)


class ClusterRow(Table):
    __tablename__ = "clusters"
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.id"), primary_key=True)
    engine: Mapped[str] = mapped_column(String(10))
    spec: Mapped[dict[str, Any]]
    port_block: Mapped[int | None] = mapped_column(unique=True)
    sealed: Mapped[bytes | None]  # encrypted credentials: Ray token, Dask CA and keys
    report: Mapped[dict[str, Any] | None]  # the agent's last
    reported_at: Mapped[datetime | None]
    target_workers: Mapped[int] = mapped_column(default=0)
    scale: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what the scale rule remembers


class JobRow(Table):
    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("jo"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(100))
    stage: Mapped[str] = mapped_column(String(12), default="prototype")
    run_as: Mapped[str] = mapped_column(ForeignKey("users.id"))
    schedule: Mapped[dict[str, Any] | None]
    next_fire_at: Mapped[datetime | None] = mapped_column(index=True)
    archived: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class JobVersionRow(Table):
    """Immutable but for `state`."""

    __tablename__ = "job_versions"
    __table_args__ = (UniqueConstraint("job_id", "number"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("jv"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(10))
    notebook: Mapped[str] = mapped_column(String(400))
    files: Mapped[list[Any]]
    source: Mapped[str] = mapped_column(String(80))
    environment: Mapped[str] = mapped_column(String(80))
    parameters: Mapped[list[Any]]
    cluster: Mapped[dict[str, Any] | None]
    size: Mapped[dict[str, Any]]
    secrets: Mapped[list[Any]] = mapped_column(default=list)
    timeout_s: Mapped[int | None]
    git_commit: Mapped[str | None] = mapped_column(String(64))
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]


class RunRow(Table):
    __tablename__ = "runs"
    # One row for a fire, whoever claims it and however often; manual runs have no fire time (NULLs are distinct).
    __table_args__ = (UniqueConstraint("job_id", "scheduled_for"),)
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.id"), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("job_versions.id"))
    trigger: Mapped[str] = mapped_column(String(10))
    scheduled_for: Mapped[datetime | None]
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cluster_id: Mapped[str | None] = mapped_column(String(40))
    progress: Mapped[dict[str, Any] | None]
    exit_code: Mapped[int | None]
    outcome: Mapped[str | None] = mapped_column(String(12))  # the phase it ends in, once its process is gone


class ReservationRow(Table):
    """What a workload holds, from admission until it is observed gone. Kept after release: budgets look back."""

    __tablename__ = "reservations"
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    amounts: Mapped[dict[str, Any]]
    gpus: Mapped[list[Any]] = mapped_column(default=list)  # leased devices
    bound: Mapped[bool] = mapped_column(default=False)
    lease_expires_at: Mapped[datetime]
    created_at: Mapped[datetime]
    released_at: Mapped[datetime | None] = mapped_column(index=True)


class LimitRow(Table):
    __tablename__ = "limits"
    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("li"))
    scope: Mapped[str] = mapped_column(String(10))  # everyone, user, group, project, machine
    scope_id: Mapped[str | None] = mapped_column(String(255))  # user id, group name, project id
    sharing: Mapped[str] = mapped_column(String(4), default="each")  # each, pool
    resource: Mapped[str] = mapped_column(String(60))
    amount: Mapped[int] = mapped_column(BigInteger)  # bytes do not fit into 32 bits
    window_s: Mapped[int | None]
    created_at: Mapped[datetime]


class ScopeRow(Table):
    """Rows that admissions lock, in sorted order, so that two never sum the same scope at once."""

    __tablename__ = "scopes"
    key: Mapped[str] = mapped_column(String(300), primary_key=True)


class TokenRow(Table):
    """A workload's own token, by hash. Dies with the generation."""

    __tablename__ = "tokens"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.id"), index=True)
    generation: Mapped[int]


class EventRow(Table):
    __tablename__ = "events"
    __table_args__ = (Index("ix_events_workload", "workload_id", "id"),)
    id: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.id"))
    at: Mapped[datetime]
    code: Mapped[str] = mapped_column(String(60))
    message: Mapped[str] = mapped_column(Text)
    actor: Mapped[str | None] = mapped_column(String(255))


class AuditRow(Table):
    """Every change by an admin: who, what, before, after, why."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(255))
    action: Mapped[str] = mapped_column(String(60))
    target: Mapped[str] = mapped_column(String(255))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    why: Mapped[str | None] = mapped_column(Text)


class IdempotencyRow(Table):
    """The result of a create, by the caller's key, so that a repeated request makes nothing twice."""

    __tablename__ = "idempotency"
    user_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    action: Mapped[str] = mapped_column(String(60), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    result: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime]


class TicketRow(Table):
    """Admits a browser to one thing on the content origin, by hash: a `ticket` once, within seconds; a `grant` until it expires."""

    __tablename__ = "tickets"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    target: Mapped[str] = mapped_column(String(400))  # what it opens, such as "dashboard:cl-..."
    expires_at: Mapped[datetime] = mapped_column(index=True)


class LeaseRow(Table):
    """Who may act as `name` now. `fence` grows with each change of hands: what an earlier holder still sends is refused."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    holder: Mapped[str] = mapped_column(String(80))
    fence: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]


class QuarantineRow(Table):
    """A row that this program can't handle, such as one of a newer version: set aside, said, and tried again when it changes."""

    __tablename__ = "quarantine"
    key: Mapped[str] = mapped_column(String(300), primary_key=True)  # table and key: "workloads/cl-..."
    reason: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime]
