"""The state folder: where it is, who may read what, the tokens that hub and service share, and the ports."""

import contextlib
import json
import os
import random
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

PRIVATE = ("secrets", "database", "logs", "workloads", "snapshots", "outputs")  # 0700
SHARED = ("environments", "jupyter", "homes", "scratch")  # every uid may pass; what lies in them has modes of its own
TOKENS = ("hub-to-service", "service-to-hub", "proxy-token", "cookie-secret", "auth-state-key")


def default_state() -> Path:
    """MOORAGE_HOME, else /var/lib/moorage as root, else .moorage below the working folder."""
    given = os.environ.get("MOORAGE_HOME")
    if given:
        return Path(given).absolute()
    return Path("/var/lib/moorage") if os.geteuid() == 0 else Path.cwd() / ".moorage"


def prepare_state(state: Path) -> None:
    """Makes the folders and the tokens that are missing, and mends their modes."""
    state.mkdir(mode=0o755, parents=True, exist_ok=True)
    state.chmod(0o755 if os.geteuid() == 0 else 0o700)
    for name in PRIVATE:
        (state / name).mkdir(mode=0o700, exist_ok=True)
        (state / name).chmod(0o700)
    for name in SHARED:
        (state / name).mkdir(exist_ok=True)
        (state / name).chmod(0o755)
    settings = state / "settings.yaml"
    if settings.exists():
        settings.chmod(0o600)  # it may hold an authenticator's secret
    for name in TOKENS:
        if not token_path(state, name).exists():
            write_private(token_path(state, name), secrets.token_hex(32))


def token_path(state: Path, name: str) -> Path:
    return state / "secrets" / name


def read_token(state: Path, name: str) -> str:
    """The one in use: a rotation leaves those that it ends on the lines below, for a moment."""
    return token_path(state, name).read_text().split()[0]


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step; only its owner may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@dataclass(frozen=True)
class Ports:
    """The ports of this installation, all on the loopback address but maybe `public`."""

    public: int
    hub: int
    proxy_api: int
    service: int


PREFERRED = Ports(public=8000, hub=8081, proxy_api=8001, service=8090)
# Above those of clusters, and below those that the system gives to outgoing connections: one of these might have ours at the next start.
SPARE = range(25500, 32700)


def fixed_ports(state: Path) -> Ports:
    """Chosen free at the first start, then kept: notebooks that outlive a restart know them."""
    path = state / "ports.json"
    if not path.exists():
        chosen: dict[str, int] = {}
        for name, preferred in asdict(PREFERRED).items():
            chosen[name] = _free_port(preferred, taken=set(chosen.values()))
        write_private(path, json.dumps(chosen))
    return Ports(**json.loads(path.read_text()))


def _free_port(preferred: int, taken: set[int]) -> int:
    for port in (preferred, *random.sample(SPARE, 50)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in taken:
                return port
    raise OSError(f"no free port found near {preferred}")
