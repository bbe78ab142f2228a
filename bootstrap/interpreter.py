"""Which Python the environments stand on.

As root every user's uid must be able to read it: one below a 0700 home (a pyenv, say) will not do. If the machine has
no other, it is copied into the state folder.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bootstrap.places import Places, SetupError
from bootstrap.say import step

OLDEST = (3, 11)
NEWEST = (3, 14)
NAMES = ("python3", *(f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)))
FOLDERS = ("/usr/bin", "/usr/local/bin")
ASK = (
    "import json, ssl, sqlite3, ctypes, sys, sysconfig; print(json.dumps({'version': list(sys.version_info[:3]), "
    "'prefix': sys.base_prefix, 'stdlib': sysconfig.get_path('stdlib'), 'path': sys._base_executable or sys.executable}))"
)


@dataclass(frozen=True)
class Interpreter:
    path: Path
    version: tuple[int, int, int]
    prefix: Path
    stdlib: Path

    @property
    def text(self) -> str:
        return ".".join(str(part) for part in self.version)


def choose(places: Places) -> Interpreter:
    """The best interpreter for the environments. Raises SetupError when there is none."""
    found = [interpreter for interpreter in map(ask, candidates()) if interpreter is not None]
    good = [each for each in found if OLDEST <= each.version[:2] <= NEWEST]
    if not good:
        raise SetupError("No Python from 3.11 on is on this machine. Install one, on Debian: apt-get install python3")
    if os.geteuid() != 0:
        return good[0]
    for each in good:
        if all_can_read(each.path.resolve()) and all_can_read(each.stdlib / "os.py"):
            return each
    return copied(good[0], places)


def candidates() -> list[Path]:
    """This one first, unless it is a virtual environment's; as root the system's own before it."""
    system = [Path(folder) / name for folder in FOLDERS for name in NAMES]
    own = [Path(getattr(sys, "_base_executable", None) or sys.executable)]
    on_path = [Path(found) for name in NAMES if (found := shutil.which(name))]
    order = [*system, *own, *on_path] if os.geteuid() == 0 else [*own, *system, *on_path]
    return [path for path in dict.fromkeys(order) if path.exists()]


def ask(path: Path) -> Interpreter | None:
    """What an interpreter says of itself; None when it does not run or lacks a module that Moorage needs."""
    try:
        done = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, timeout=30, check=True)
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    version = (int(answer["version"][0]), int(answer["version"][1]), int(answer["version"][2]))
    return Interpreter(Path(answer["path"]), version, Path(answer["prefix"]), Path(answer["stdlib"]))


def all_can_read(path: Path) -> bool:
    """Whether any uid can read the file: each folder above it may be passed by all."""
    if not path.exists() or not path.stat().st_mode & 0o004:
        return False
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def copied(interpreter: Interpreter, places: Places) -> Interpreter:
    """The interpreter's copy in the state folder, made at first need."""
    target = places.state / "python" / interpreter.text
    name = f"python{interpreter.version[0]}.{interpreter.version[1]}"
    if not target.exists():
        with step(f"Copying Python {interpreter.text} to {target}, where every user can read it"):
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            unwanted = shutil.ignore_patterns("site-packages", "__pycache__", "test", "*.a")
            shutil.copytree(interpreter.prefix, partial, symlinks=True, ignore=unwanted)
            for path in (target.parent, partial, *partial.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            partial.rename(target)
    found = ask(target / "bin" / name)
    if found is None or not found.stdlib.is_relative_to(target):
        raise SetupError(
            f"Python {interpreter.text} in {interpreter.prefix} cannot be read by other users and does not work from a copy. "
            "Install the system's Python, on Debian: apt-get install python3"
        )
    return found
