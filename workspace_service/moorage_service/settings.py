"""The service's settings: one typed object, from `<state>/settings.yaml` (its `service:` part) plus environment.

Environment variables are `MOORAGE_SERVICE_<NAME>`; they win over the file. Durations are in seconds.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from limits import parse_many
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from moorage.origins import PREFIX as _PREFIX
from moorage.origins import Origins
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.peers import networks

PREFIX = _PREFIX


def is_ours(path: str) -> bool:
    """Whether a browser that is sent to `path` stays on a page of this service: never another site's, nor the hub's."""
    return path.startswith(f"{PREFIX}/")


MAY_BE_ZERO = frozenset(
    {
        "hub_token_cache_s", "session_check_s", "stop_grace_s", "schedule_grace_s", "scale_idle_s", "run_report_s", "disabled_grace_s",
        "cluster_idle_s", "cluster_lifetime_s",
    }
)  # fmt: skip


class SettingsError(Exception):
    """The settings can't be used; the text says where and why."""


class SizeSetting(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cpu: float = Field(description="Cores.")
    memory: int = Field(description="Bytes.")


class Inventory(BaseModel):
    """What this machine lends. What is left out is measured."""

    model_config = ConfigDict(extra="forbid")
    cpu: float | None = Field(None, description="Cores; measured, times `cpu_overcommit`, when left out.")
    memory: int | None = Field(None, description="Bytes; 90 % of the machine's when left out.")
    gpus: dict[str, str] | None = Field(
        None, description="Device as CUDA_VISIBLE_DEVICES names it -> type, e.g. {'0': 'h200'}."
    )
    cpu_overcommit: float = Field(4.0, description="Cores lent per core there is: notebooks idle most of the time.")


class Rates(BaseModel):
    """How often one user may ask, as "20 per minute; 200 per hour"; never refused when empty."""

    model_config = ConfigDict(extra="forbid")
    enabled: bool = Field(True, description="False: nothing is counted.")
    notebook_start: str = Field("20 per minute", description="Starts of notebooks.")
    cluster_create: str = Field("30 per minute", description="New clusters.")
    run_start: str = Field("120 per minute", description="Runs started by hand; schedules are not counted.")
    promote: str = Field("60 per minute", description="Promotions of notebooks.")
    build: str = Field("30 per minute; 120 per hour", description="Builds, and new projects, which are built at once.")
    ticket: str = Field("120 per minute", description="Dashboards and outputs opened.")
    sign_in: str = Field("60 per minute", description="Sign-ins that fail from one address.")
    report: str = Field("600 per minute", description="Reports by one cluster's agent.")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for name, value in self:
            if isinstance(value, str) and value:
                try:
                    parse_many(value)
                except ValueError as error:
                    raise ValueError(
                        f"rates.{name}: {value!r} is no rate; write one such as '20 per minute; 200 per hour'"
                    ) from error
        return self


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MOORAGE_SERVICE_", env_nested_delimiter="__", extra="forbid")

    state: Path = Field(description="The state folder.")
    platform: Literal["local", "kubernetes"] = Field(
        "local", description="Where workloads run: processes of this machine, or pods. The chart says so."
    )
    kubernetes: KubernetesSettings | None = Field(
        None, description="What is to be known of the cluster; the chart says it. See kubernetes.md."
    )
    host: str = Field("127.0.0.1", description="Address the service listens on.")
    port: int = Field(8090, description="Port the service listens on; fixed for an installation.")
    service_connect_url: str = Field(
        "",
        description="The service as proxy, hub and workloads reach it, without its prefix; by host and port when empty.",
    )
    public_url: str = Field(
        "http://127.0.0.1:8000", description="What a browser uses to reach the proxy, without a trailing slash."
    )
    origins: Literal["one", "per-user"] = Field(
        "one",
        description="Whether each user's servers, and what clusters and notebooks wrote, have host names of their own below "
        "public_url's. `make up` tells the service what the hub does.",
    )
    hub_api_url: str = Field("http://127.0.0.1:8081/hub/api", description="The hub's API as the service reaches it.")
    database_url: str | None = Field(None, description="SQLAlchemy URL; SQLite in the state folder when left out.")
    inventory: Inventory = Field(default_factory=Inventory, description="What this machine lends to workloads.")
    uid_first: int = Field(61000, description="First uid allotted to a user, when run as root.")
    uid_count: int = Field(4000, description="How many uids are set aside for users.")
    builder_uid_first: int = Field(
        65600, description="First uid of the throwaway identities that builds run under, when run as root."
    )
    port_wall: Literal["auto", "off"] = Field(
        "auto",
        description="As root, users' ports answer only to themselves ('auto', needs nftables); 'off': to everyone.",
    )
    python_versions: dict[str, str] = Field(
        default_factory=dict,
        description="Python versions projects may name -> interpreter; the service's own when empty.",
    )
    uv: str = Field("uv", description="The uv program that builds environments.")
    client_wheel: Path | None = Field(
        None, description="The `moorage` wheel that is put into every project environment."
    )
    server_python: Path | None = Field(
        None, description="Interpreter of the server environment, which runs notebooks through papermill."
    )
    build_timeout_s: float = Field(3600.0, description="How long one step of a build may take.")
    build_memory: int = Field(8 << 30, gt=0, description="Bytes of memory that one build may use.")
    build_processes: int = Field(
        1000, gt=0, description="Processes and threads that one build may have, when run as root."
    )
    free_disk: int = Field(1 << 30, ge=0, description="Bytes that a build must leave free on the disk.")
    notebook_size: SizeSetting = Field(
        default_factory=lambda: SizeSetting(cpu=1, memory=2 << 30),
        description="A notebook's size unless asked otherwise.",
    )
    run_size: SizeSetting = Field(
        default_factory=lambda: SizeSetting(cpu=1, memory=2 << 30), description="A run's size unless asked otherwise."
    )
    head_size: SizeSetting = Field(
        default_factory=lambda: SizeSetting(cpu=1, memory=3 << 29), description="What a cluster's head takes."
    )
    max_workers: int = Field(16, description="Most workers one cluster may ask for.")
    port_first: int = Field(24100, description="First port of the blocks given to clusters.")
    port_blocks: int = Field(64, description="How many clusters may hold a port block at once.")
    reconcile_s: float = Field(1.0, description="Longest pause between two reconcile passes.")
    orphan_sweep_s: float = Field(
        15.0, description="Between two looks for processes whose workload has ended; they are ended."
    )
    database_wait_s: float = Field(
        30.0, description="How long a service that starts waits for a database that does not answer."
    )
    unknown_workloads: Literal["adopt", "end", "leave"] = Field(
        "adopt",
        description="What becomes of workloads that run and that the database does not know, because it was lost or restored: "
        "adopt them, end them, or leave them alone.",
    )
    lease_s: float = Field(
        15.0, description="Of several service processes one acts; how long after it went silent another one takes over."
    )
    admission_lease_s: float = Field(
        120.0, description="How long an admitted workload may hold its reservation before it starts."
    )
    stop_grace_s: float = Field(10.0, description="Between asking a process to end and ending it.")
    scale_idle_s: float = Field(20.0, description="How long a worker above the minimum is idle before it is retired.")
    agent_interval_s: float = Field(1.0, description="Between two reports of a cluster's agent.")
    start_timeout_s: float = Field(180.0, description="How long a cluster may take to become ready.")
    cluster_orphan_s: float = Field(
        120.0,
        description="How long a cluster that ends with its notebook outlives it: a restart within that time keeps it.",
    )
    cluster_idle_s: float = Field(
        1800.0, description="How long a cluster may have neither work nor a client before it ends; 0: for ever."
    )
    cluster_lifetime_s: float = Field(
        7 * 86400.0,
        description="How old a cluster may become, and how far ahead it may be kept at once; 0: without end.",
    )
    cluster_warn_s: float = Field(600.0, description="How long before it ends by itself a cluster says so.")
    run_report_s: float = Field(
        30.0, description="How long an ended run waits for the service to take its last reports; it keeps them anyway."
    )
    largest_body: int = Field(
        4 << 20,
        gt=0,
        description="Bytes that a request may bring, but for promotions, archives, outputs and forms with files.",
    )
    run_disk_wait_s: float = Field(
        90.0,
        description="How long it is tried again when the disk takes neither a run's folder nor its outputs; then it failed.",
    )
    schedule_grace_s: float = Field(3600.0, description="How late a missed fire may still be made up for.")
    session_s: float = Field(14 * 86400.0, description="How long a browser session lasts.")
    session_check_s: float = Field(
        60.0, description="How long a browser session outlives its end at the hub: the hub is asked this often."
    )
    socket_check_s: float = Field(
        5.0, description="How often it is asked again whether an open dashboard's connection may go on."
    )
    disabled_grace_s: float = Field(
        600.0, description="How long a disabled user's notebooks and clusters go on; at 0 they end at once."
    )
    ticket_s: float = Field(
        30.0, description="How long a ticket to the content origin is good; the browser uses it at once."
    )
    grant_s: float = Field(
        3600.0,
        description="How long what a ticket opened stays open without being used: a dashboard, a run's notebook.",
    )
    hub_token_cache_s: float = Field(
        10.0, description="How long a hub token's owner is remembered; so long a revoked token still works."
    )
    rates: Rates = Field(default_factory=Rates, description="How often one user may ask for what is dear.")
    starting_notebooks: int = Field(
        5,
        ge=1,
        description="How many notebooks one user may have starting at once: the hub starts 100 at once for everybody.",
    )
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="Addresses, or networks such as 10.0.0.0/8, of proxies before ours, whose word on whom they speak for is believed. "
        "`make up` tells the service what the hub does.",
    )
    workload_log_bytes: int = Field(
        64 << 20,
        gt=1 << 10,
        description="Bytes of a notebook's, cluster's or run's own log; beyond, its beginning is removed.",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of service.log: 'text' for people, 'json' for a collector of logs."
    )
    seed_starter: bool = Field(True, description="Create the starter project at the first start.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file comes in as keyword arguments (see `load`), so the environment must win over them.
        return env_settings, init_settings

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name, value in self:
            if name.endswith("_s") and not (math.isfinite(value) and value >= (0 if name in MAY_BE_ZERO else 0.01)):
                raise ValueError(f"{name}: {value} is no duration; give seconds above 0")
        try:
            make_url(self.sqlalchemy_url)
        except (ArgumentError, ValueError) as error:  # a port that is no number is a ValueError
            raise ValueError(
                "database_url: it is no SQLAlchemy URL, such as postgresql+psycopg://user@host/name"
            ) from error
        _ = self.addresses  # refuses what is no origin
        try:
            networks(tuple(self.trusted_proxies))
        except ValueError as error:
            raise ValueError(f"trusted_proxies: {error}; write addresses, or networks such as 10.0.0.0/8") from error
        if self.uid_first < 1000 or self.uid_count < 1:
            raise ValueError("uid_first, uid_count: leave the uids below 1000 to the system, and set at least 1 aside")
        if self.uid_first <= self.builder_uid_first < self.uid_first + self.uid_count:
            raise ValueError("builder_uid_first: it lies among the users' uids; builds need uids of their own")
        return self

    @property
    def secrets(self) -> Path:
        return self.state / "secrets"

    @property
    def environments(self) -> Path:
        return self.state / "environments"

    @property
    def addresses(self) -> Origins:
        """Builds every address for a browser."""
        return Origins(self.public_url.rstrip("/"), per_user=self.origins == "per-user")

    @property
    def url(self) -> str:
        """The service's own address with its prefix: what workloads call."""
        return f"{self.own_address}{PREFIX}"

    @property
    def own_address(self) -> str:
        return self.service_connect_url or f"http://{self.host}:{self.port}"

    @property
    def sqlalchemy_url(self) -> str:
        url = self.database_url or ""
        if url.startswith("postgresql://"):
            return url.replace("://", "+psycopg://", 1)  # the driver that we bring
        return url or f"sqlite:///{self.state / 'database' / 'service.sqlite'}"


def load(**given: Any) -> Settings:
    """Reads the settings once: `given` < file < environment.

    Raises SettingsError: no folder is named, the file can't be read, or a field is bad, each of which it names.
    """
    named = given.get("state") or os.environ.get("MOORAGE_SERVICE_STATE")
    if not named:
        raise SettingsError("state: no state folder is named. Set MOORAGE_SERVICE_STATE to its path.")
    state = Path(named)
    try:
        return Settings(**{**given, **_read_file(state / "settings.yaml"), "state": state})
    except UnreadableVariable as error:
        raise SettingsError(f"{error}. Write it as JSON.") from error
    except ValidationError as error:
        raise SettingsError(" ".join(_sentences(error))) from error


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        unknown = problem["type"] == "extra_forbidden"
        if unknown:
            message = "there is no such setting"
        # The whole would show a database's password, also under a name that was written wrongly.
        shown = f" (given: {problem['input']!r})" if field and field != "database_url" and not unknown else ""
        yield f"{field + ': ' if field else ''}{message}{shown}. Correct it in settings.yaml or the environment."


def _read_file(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file}: it can't be read as YAML: {error}") from error
    part = document.get("service") if isinstance(document, dict) else document
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise SettingsError(
            f"{file}: the service's settings must be a mapping below `service:`, not {type(part).__name__}."
        )
    return part
