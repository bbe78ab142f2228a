"""A PostgreSQL server of the tests' own: Debian's program, a new folder, a socket in it and no port."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


class Server:
    """A server in a folder of its own, which may be killed and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self.folder = folder
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://moorage@/postgres?host={self.folder}"

    def make(self) -> None:
        if self._account:
            os.chown(self.folder, self._account["user"], self._account["group"])
        subprocess.run(
            [self._programs / "initdb", "-D", self.folder / "data", "-U", "moorage", "-A", "trust", "-E", "UTF8",
             "--no-locale", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._account,
        )  # fmt: skip

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
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
        eventually(lambda: _answers(self.folder), what="PostgreSQL answering")

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
def server(programs: Path) -> Iterator[Server]:
    # Not below pytest's folder: that is 0700, and as root the server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="moorage-pg-"))
    made = Server(programs, folder)
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


def _answers(folder: Path) -> bool:
    try:
        psycopg.connect(f"host={folder} user=moorage dbname=postgres connect_timeout=2").close()
    except psycopg.OperationalError:
        return False
    return True
