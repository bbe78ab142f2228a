"""Running the machine's programs: with what they said in the error if they fail."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kube.errors import NodeError
from tests.kube.place import ADDRESS

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin")


def search_path() -> str:
    """PATH, and where Debian keeps what only root needs, which may be missing from it."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])


def find(program: str) -> str | None:
    """A program's path; one named by an absolute path is looked for there alone."""
    return shutil.which(program, path=search_path())


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's own, with the whole search path, and with no proxy between programs of this machine."""
    spared = {name: f"{os.environ.get(name, '')},{ADDRESS}".lstrip(",") for name in ("no_proxy", "NO_PROXY")}
    return {**os.environ, **spared, "PATH": search_path(), **(more or {})}


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    timeout: float | None = 1800,
) -> subprocess.CompletedProcess[str]:
    """Runs to its end; raises NodeError with the last of its output when it fails and `check` is set."""
    done = subprocess.run(
        argv, input=stdin, env=environment(env), cwd=cwd, capture_output=True,
        text=True, check=False, timeout=timeout,
    )  # fmt: skip
    if check and done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        command = " ".join(str(part) for part in argv)[:300]
        raise NodeError(f"`{command}` ended with status {done.returncode}:\n{said}")
    return done
