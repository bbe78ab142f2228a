"""A PostgreSQL server of the tests' own: Debian's program, a new folder, a socket in it and, unless a test asks for one, no port."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.waiting import eventually


def find_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest that Debian's packages left; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program is not None else None


@dataclass(frozen=True)
class Network:
    """Where the server listens, and the addresses (CIDR) that it lets in without a password."""

    address: str
    port: int
    clients: str


class Server:
    """A server in a folder of its own, which may be killed and started again."""

    def __init__(self, programs: Path, folder: Path, network: "Network | None" = None) -> None:
        self._programs = programs
        self.folder = folder
        self._network = network
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://moorage@/postgres?host={self.folder}"

    @property
    def _socket(self) -> str:
        port = "" if self._network is None else f" port={self._network.port}"
        return f"host={self.folder}{port} user=moorage dbname=postgres"

    def database(self, name: str) -> str:
        """URL, for clients in the network, of a new database."""
        assert self._network is not None
        with psycopg.connect(self._socket, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://moorage@{self._network.address}:{self._network.port}/{name}"

    def make(self) -> None:
        if self._account:
            os.chown(self.folder, self._account["user"], self._account["group"])
        subprocess.run(
            [self._programs / "initdb", "-D", self.folder / "data", "-U", "moorage", "-A", "trust", "-E", "UTF8",
             "--no-locale", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._account,
        )  # fmt: skip

        if self._network is not None:
            with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {self._network.clients} trust\n")

    def start(self) -> None:
        network = self._network
        settings = {
            "listen_addresses": "" if network is None else network.address,
            **({} if network is None else {"port": str(network.port)}),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", *options],
                stdout=log, stderr=log, cwd=self.folder, **self._account,
            )  # fmt: skip
        eventually(lambda: _answers(self._socket), what="PostgreSQL answering")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """SIGTERM: waits for its clients. SIGINT: ends them all in order. SIGQUIT: as if it had crashed. Returns when it is gone."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None


@contextmanager
def serve(programs: Path) -> Iterator[str]:
    """Yields the URL of a server's own database; the server ends with the block."""
    with server(programs) as made:
        yield made.url


@contextmanager
def server(programs: Path, network: Network | None = None) -> Iterator[Server]:
    # Not below pytest's folder: that is 0700, and as root the server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="moorage-pg-"))
    made = Server(programs, folder, network)
    try:
        made.make()
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _answers(where: str) -> bool:
    try:
        psycopg.connect(where, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
