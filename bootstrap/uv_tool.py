"""uv, at a locked version, from the package index into the state folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap.interpreter import candidates
from bootstrap.places import ROOT, Places, SetupError
from bootstrap.say import run, say, step

LOCK = ROOT / "locks" / "uv.txt"


def ensure_uv(places: Places) -> Path:
    """The uv program; fetched by pip when it is not there at the locked version."""
    wanted = LOCK.read_text().partition("uv==")[2].split()[0]
    if places.uv.exists() and run([places.uv, "--version"], "uv").split()[1] == wanted:
        return places.uv
    pip = find_pip(places)
    with step(f"Fetching uv {wanted}"):
        shutil.rmtree(places.tools / "uv", ignore_errors=True)
        argv: list[str | Path] = [
            *pip,
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ]
        run(
            [*argv, "--only-binary=:all:", "--target", places.tools / "uv", "-r", LOCK],
            "Fetching uv",
            env=pip_environment(),
        )
        places.uv.parent.mkdir(exist_ok=True)
        places.uv.unlink(missing_ok=True)
        places.uv.symlink_to(Path("..") / "uv" / "bin" / "uv")
    return places.uv


def pip_environment() -> dict[str, str]:
    """Without what would send the install elsewhere than asked."""
    unwanted = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "PYTHONPATH", "PYTHONHOME")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def find_pip(places: Places) -> list[str]:
    """A pip that runs: an interpreter's own, or one in a virtual environment made for it."""
    interpreters = [Path(sys.executable), *candidates()]
    for python in interpreters:
        if _works([str(python), "-m", "pip", "--version"]):
            return [str(python), "-m", "pip"]
    folder = places.tools / "pip"
    for attempt in range(2):
        for python in interpreters:
            if _works([str(python), "-c", "import ensurepip"]) and _works(
                [str(python), "-m", "venv", "--clear", str(folder)]
            ):
                return [str(folder / "bin" / "python"), "-m", "pip"]
        if attempt or not _install_venv():
            break
    raise SetupError(
        "Python here has neither pip nor ensurepip, by which the set-up fetches everything else. "
        "On Debian: apt-get install python3-venv"
    )


def _install_venv() -> bool:
    """Debian ships Python without pip; as root its package is one command away."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    say("Python here has no pip: installing Debian's python3-venv by apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment, stdout=subprocess.DEVNULL)
    argv: list[str | Path] = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-venv"]
    return subprocess.run(argv, check=False, env=environment, stdout=subprocess.DEVNULL).returncode == 0


def _works(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False, timeout=120).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
