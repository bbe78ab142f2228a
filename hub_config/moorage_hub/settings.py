"""The hub's settings: one typed object, from the `hub:` part of `<state>/settings.yaml`, then the environment.

Environment variables are MOORAGE_HUB_ and the field's name in capitals; they win over the file.
"""

import os
import pwd
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from limits import parse_many
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from moorage.origins import PREFIX, Origins, is_address, is_loopback
from moorage.quantities import InvalidQuantity, parse_memory
from moorage_hub.errors import BadSettings
from moorage_hub.state import fixed_ports
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.peers import networks

BUILT_IN = "password"
# They let in whoever knows one shared word, or anyone: good for a demonstration, not for a network.
NOT_REAL = frozenset({BUILT_IN, "dummy", "null", "shared-password"})
USER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class HubSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MOORAGE_HUB_", env_nested_delimiter="__", extra="forbid")

    state: Path = Field(description="The state folder.")
    platform: Literal["local", "kubernetes"] = Field(
        "local", description="Where notebooks run: processes of this machine, or pods. The chart says so."
    )
    kubernetes: KubernetesSettings | None = Field(
        None, description="What is to be known of the cluster; the chart says it. See kubernetes.md."
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL of a PostgreSQL for the hub's records; SQLite in the state folder when empty."
    )
    bind: str = Field(
        "127.0.0.1",
        description="Address that browsers reach. Anything but a loopback address needs a real authenticator.",
    )
    port: int = Field(description="Port that browsers reach; free at the first start, then kept.")
    hub_port: int = Field(description="Port of the hub itself, on the loopback address.")
    proxy_api_port: int = Field(description="Port of the proxy's API, on the loopback address.")
    service_port: int = Field(description="Port of the service, on the loopback address.")
    hub_host: str = Field("127.0.0.1", description="Address on which the hub listens; in a pod all of its own.")
    hub_connect_url: str = Field(
        "", description="The hub as proxy, service and notebooks reach it; on this machine when empty."
    )
    proxy_api_url: str = Field("", description="The proxy's API as the hub reaches it; on this machine when empty.")
    service_connect_url: str = Field(
        "",
        description="The service as proxy, hub and notebooks reach it, without its prefix; on this machine when empty.",
    )
    public_url: str = Field(
        "", description="What a browser uses, without a trailing slash; made from bind and port when empty."
    )
    origins: Literal["auto", "one", "per-user"] = Field(
        "auto",
        description="Whether each user's servers, and what clusters and notebooks wrote, get host names of their own below "
        "public_url's (wildcard DNS; nothing to do for localhost). 'auto': yes where there may be more than one user.",
    )
    authenticator: str = Field(
        BUILT_IN,
        description=f"'{BUILT_IN}' (the built-in list of users), a short name such as 'generic-oauth', or module.Class.",
    )
    authenticator_settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of the authenticator's classes, for example {GenericOAuthenticator: {client_id: ...}}.",
    )
    username_claim_is_unique: bool = Field(
        False,
        description="Say true when the identity provider gives each user one name that nobody can choose or take over, and "
        "`username_claim` is it.",
    )
    allowed_email_domains: list[str] = Field(
        default_factory=list,
        description="Single sign-on for verified e-mail addresses of exactly these domains only; any when empty.",
    )
    identity_check_s: int = Field(
        60,
        ge=1,
        description="How often the identity provider is asked again whether a signed-in user may still come in.",
    )
    session_check_s: float = Field(
        60.0,
        gt=0,
        description="How often a notebook server asks whether a session has ended; what it had open is closed. "
        "Holds for servers that start from then on.",
    )
    sign_in_rate: str = Field(
        "10 per minute; 100 per hour",
        description="How often a sign-in may fail from one address under one name; five times as often in all. Without a limit when empty.",
    )
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="Addresses, or networks such as 10.0.0.0/8, of proxies before ours, as ours sees them: what they say of whom "
        "they speak for is believed.",
    )
    user: str = Field(
        "",
        description="Name of the first user, who is also admin; the account that runs Moorage when empty ('admin' for root, and in a "
        "cluster).",
    )
    users: list[str] = Field(
        default_factory=list,
        description="Further users of the built-in list; each gets a password of their own. Needs root; not in a cluster.",
    )
    notebook_cpu: float = Field(1.0, gt=0, description="Cores of a notebook that asks for none.")
    notebook_memory: str = Field("2GiB", description="Memory of a notebook that asks for none, such as 2GiB.")
    start_timeout_s: int = Field(120, gt=0, description="How long a notebook may take to start.")
    stop_grace_s: float = Field(10.0, ge=0, description="Between asking a notebook to end and ending it.")
    poll_s: int | None = Field(
        None,
        gt=0,
        description="How often the hub looks whether notebooks still run; 5 on one machine and 30 on Kubernetes when left out, where "
        "the service tells it of each end.",
    )
    check_routes_s: int = Field(
        5, gt=0, description="How often the hub looks whether the proxy has all its routes, and adds what is missing."
    )
    unresponsive_s: float = Field(
        120.0, gt=0, description="After how long without any answer hub, proxy or service is ended and started again."
    )
    log_bytes: int = Field(
        50 << 20, gt=1 << 10, description="Bytes of hub.log, service.log and proxy.log each; a longer one is put aside."
    )
    logs_kept: int = Field(3, ge=0, description="How many logs that were put aside are kept of each.")
    login_link_s: float = Field(3600.0, gt=0, description="How long a one-time login link is good.")
    node: str = Field("", description="The node program; looked for in the state folder, then on PATH, when empty.")
    proxy_script: str = Field(
        "", description="configurable-http-proxy's script; the one in the state folder when empty."
    )
    server_python: str = Field(
        "", description="Interpreter of the server environment; the one in the state folder when empty."
    )
    control_python: str = Field(sys.executable, description="Interpreter that runs hub and service.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the file comes in as keyword arguments (see `load`)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.user = self.user or ("admin" if self.platform == "kubernetes" else own_name())
        for name in (self.user, *self.users):
            if not USER_NAME.fullmatch(name):
                raise ValueError(
                    f"user {name!r}: write lower-case letters, digits, dash and underscore, a letter first"
                )
        self.hub_connect_url = self.hub_connect_url or f"http://127.0.0.1:{self.hub_port}"
        self.proxy_api_url = self.proxy_api_url or f"http://127.0.0.1:{self.proxy_api_port}"
        self.service_connect_url = self.service_connect_url or f"http://127.0.0.1:{self.service_port}"
        self._choose_origins()
        self.server_python = self.server_python or str((self.state / "server").resolve() / "bin" / "python")
        self.proxy_script = self.proxy_script or str(
            self.state / "node" / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
        )
        own_node = self.state / "node" / "bin" / "node"
        self.node = self.node or (str(own_node) if own_node.exists() else shutil.which("node") or str(own_node))
        try:
            parse_memory(self.notebook_memory, "notebook_memory")
        except InvalidQuantity as error:
            raise ValueError(str(error)) from error
        try:
            parse_many(self.sign_in_rate) if self.sign_in_rate else []
        except ValueError as error:
            raise ValueError(
                f"sign_in_rate: {self.sign_in_rate!r} is no rate; write one such as '10 per minute; 100 per hour'"
            ) from error
        try:
            networks(tuple(self.trusted_proxies))
        except ValueError as error:
            raise ValueError(f"trusted_proxies: {error}; write addresses, or networks such as 10.0.0.0/8") from error
        if not _is_postgresql(self.sqlalchemy_url) and self.database_url:
            raise ValueError(
                "database_url: it is no URL of a PostgreSQL, such as postgresql+psycopg://user@host/name; leave it empty for SQLite"
            )
        self._refuse_unsafe()
        return self

    def _choose_origins(self) -> None:
        """Makes `public_url` complete, and of 'auto' what it means here."""
        here = self.bind if not is_loopback(self.bind) else "localhost" if self._several() else self._shown_host()
        self.public_url = (self.public_url or f"http://{here}:{self.port}").rstrip("/")
        if self.origins == "auto":
            named = not is_address(urlsplit(self.public_url).hostname or "")
            self.origins = "per-user" if named and self._several() else "one"
        _ = self.addresses

    def _several(self) -> bool:
        """Whether there may be more than one user: their uids or pods keep them apart, and a real authenticator has many."""
        return self.origins == "per-user" or (
            self.origins == "auto" and (self.keeps_apart or self.authenticator not in NOT_REAL)
        )

    @property
    def keeps_apart(self) -> bool:
        """Whether users' notebooks run under accounts, or in pods, of their own. Without that exactly one user is served."""
        return self.platform == "kubernetes" or os.geteuid() == 0

    @property
    def addresses(self) -> Origins:
        return Origins(self.public_url, per_user=self.origins == "per-user")

    @property
    def local_url(self) -> str:
        """The proxy, as this machine reaches it without DNS; a request needs the Host header of `addresses.netloc`."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where we ask, not where we listen
        host = everywhere.get(self.bind, self._shown_host())
        return f"http://{host}:{self.port}"

    def _shown_host(self) -> str:
        return f"[{self.bind}]" if ":" in self.bind else self.bind

    def _refuse_unsafe(self) -> None:
        if self.authenticator in NOT_REAL and not self._is_for_this_machine():
            where = f"public_url {self.public_url!r}" if self.platform == "kubernetes" else f"bind {self.bind!r}"
            raise ValueError(
                f"{where} lets other machines in, but the authenticator {self.authenticator!r} is no real one; set "
                "`authenticator` (for example generic-oauth) and `authenticator_settings`, or let it be 127.0.0.1"
            )
        if self.users and self.platform == "kubernetes":
            raise ValueError(
                f"users {self.users}: in a cluster nobody reads the passwords that they would get. Leave it empty, and list each by "
                f"`kubectl exec deploy/<release>-hub -c hub -- moorage-hub user add {self.users[0]}`"
            )
        if self.users and self.authenticator == BUILT_IN and not self.keeps_apart:
            raise ValueError(one_user_only(self.users[0]))

    def _is_for_this_machine(self) -> bool:
        """In a pod everything listens on all addresses; the public one is of this machine when somebody forwards a port to it."""
        host = urlsplit(self.public_url).hostname or "" if self.platform == "kubernetes" else self.bind
        return is_loopback(host)

    @property
    def notebook_memory_bytes(self) -> int:
        return parse_memory(self.notebook_memory, "notebook_memory")

    @property
    def sqlalchemy_url(self) -> str:
        """Of the hub's own database, with its password."""
        if self.database_url.startswith("postgresql://"):
            return self.database_url.replace("://", "+psycopg://", 1)  # the driver that we bring
        return self.database_url or f"sqlite:///{self.state / 'database' / 'hub.sqlite'}"

    @property
    def hub_api_url(self) -> str:
        return f"{self.hub_connect_url}/hub/api"

    @property
    def service_url(self) -> str:
        """The service with its prefix, as our other parts reach it."""
        return f"{self.service_connect_url}{PREFIX}"


def _is_postgresql(url: str) -> bool:
    try:
        return make_url(url).drivername == "postgresql+psycopg"
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        return False


def own_name() -> str:
    """A name for the person who runs Moorage: the account's, or 'admin' for root and for names the hub cannot take."""
    if os.geteuid() == 0:
        return "admin"
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name.lower()
    except KeyError:
        return "admin"
    return name if USER_NAME.fullmatch(name) else "admin"


def one_user_only(name: str) -> str:
    """Why there is no second user without root."""
    return (
        f"user {name!r} would be a second one, but Moorage does not run as root: every notebook would run under one account, "
        "and each user could read all files and secrets of the others. Start it as root (sudo make up) to serve several users"
    )


def load(state: Path, **given: Any) -> HubSettings:
    """Reads the settings once. `given` < file < environment. Raises BadSettings with a sentence per bad field."""
    ports = fixed_ports(state)
    from_ports = {
        "port": ports.public, "hub_port": ports.hub, "proxy_api_port": ports.proxy_api, "service_port": ports.service,
    }  # fmt: skip
    settings = _made(state, {**from_ports, **given, **_read(state)})
    _check_authenticator(settings)
    return settings


def load_joined(folder: Path) -> HubSettings:
    """Those of a hub that is not ours, which signs people in as it always did. Raises BadSettings."""
    if not (folder / "settings.yaml").exists():
        raise BadSettings(f"There is no settings.yaml in {folder}: mount the Secrets of Moorage's chart there.")
    return _made(folder, {**_read(folder), "authenticator": "the existing hub's"})


def _read(state: Path) -> dict[str, Any]:
    file = state / "settings.yaml"
    try:
        document = yaml.safe_load(file.read_text()) if file.exists() else {}
        return dict((document or {}).get("hub") or {})
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise BadSettings(f"{file} cannot be read as YAML with a `hub:` part: {error}") from error


def _made(state: Path, given: dict[str, Any]) -> HubSettings:
    try:
        return HubSettings(**{**given, "state": state})
    except ValidationError as error:
        raise BadSettings(_sentences(error, state / "settings.yaml")) from error


def _check_authenticator(settings: HubSettings) -> None:
    if settings.authenticator == BUILT_IN:
        return
    from moorage_hub import sign_on  # brings JupyterHub in, which most commands can do without

    try:
        sign_on.check(
            settings.authenticator, settings.authenticator_settings, claim_is_unique=settings.username_claim_is_unique
        )
    except ValueError as error:
        raise BadSettings(f"Settings (hub part of {settings.state / 'settings.yaml'}): {error}.") from error


def _sentences(error: ValidationError, file: Path) -> str:
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        unknown = problem["type"] == "extra_forbidden"
        if unknown:
            message = "there is no such setting"
        # A secret may stand under a name written wrongly, too.
        secret = unknown or field.startswith(("authenticator_settings", "database_url"))
        shown = "" if secret or problem["type"] == "value_error" else f" (given: {problem['input']!r})"
        lines.append(f"{field + ': ' if field else ''}{message}{shown}.")
    return f"Settings (hub part of {file}, or MOORAGE_HUB_... in the environment): " + " ".join(lines)
