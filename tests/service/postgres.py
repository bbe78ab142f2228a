"""A PostgreSQL server of the tests' own: Debian's program, a new folder, a socket in it and no port."""

import os
import pwd
import shutil
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


@contextmanager
def serve(programs: Path) -> Iterator[str]:
    """Yields the URL of the server's own database; the server ends with the block."""
    # Not below pytest's folder: that is 0700, and as root the server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="moorage-pg-"))
    account = _account()
    try:
        if account:
            os.chown(folder, account["user"], account["group"])
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "moorage", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, **account,
        )  # fmt: skip
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=folder, **account
            )
        try:
            eventually(lambda: _answers(folder), what="PostgreSQL answering")
            yield f"postgresql+psycopg://moorage@/postgres?host={folder}"
        finally:
            server.terminate()  # no longer waits for clients than it must
            server.wait(timeout=30)
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
