"""The two platform environments, `control` and `server`: a locked set of packages plus our own wheels.

Each version is a folder of its own, and `<state>/control` and `<state>/server` are links to the present one: a notebook
server that still runs from an older version keeps its files.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from bootstrap.interpreter import Interpreter
from bootstrap.places import MEMBERS, ROOT, Places
from bootstrap.say import run, say, step

OWN = {
    "control": ("moorage", "moorage_spawners", "moorage_hub", "moorage_images", "moorage_jobs", "moorage_service"),
    "server": ("moorage", "moorage_images", "moorage_jobs"),
}
DONE = "moorage-complete"
KEPT_WHEELS = 3
LEFT_OUT = {"__pycache__", "node_modules", ".mypy_cache", ".ruff_cache", "lib", "dist", "build"}


def digest(paths: Iterable[Path]) -> str:
    """Of the files' names and contents."""
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{path.relative_to(ROOT)}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def sources() -> list[Path]:
    """All files that our wheels are made of."""
    found = []
    for member in MEMBERS:
        for folder, names, files in os.walk(ROOT / member):
            names[:] = [name for name in names if name not in LEFT_OUT]
            found += [Path(folder) / name for name in files if not name.endswith((".pyc", ".tsbuildinfo"))]
    return sorted(found)


def uv_environment(places: Places) -> dict[str, str]:
    """uv's cache lies beside the environments, so that it links files instead of copying them."""
    unwanted = (
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONDONTWRITEBYTECODE",
        "UV_PYTHON",
        "UV_PROJECT_ENVIRONMENT",
    )
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {"UV_CACHE_DIR": str(places.cache / "uv"), **kept, "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}


def build_wheels(places: Places, uv: Path, interpreter: Interpreter) -> dict[str, Path]:
    """Our own wheels by name, made once per state of the sources."""
    constraints = ROOT / "locks" / "build.txt"
    folder = places.wheels / digest([*sources(), constraints])
    if not (folder / DONE).exists():
        with step("Building Moorage's own packages"):
            shutil.rmtree(folder, ignore_errors=True)
            argv: list[str | Path] = [
                uv,
                "build",
                "--all-packages",
                "--wheel",
                "--out-dir",
                folder,
                "--python",
                interpreter.path,
            ]
            run(
                [*argv, "--build-constraints", constraints, "--require-hashes"],
                "Building",
                env=uv_environment(places),
                cwd=ROOT,
            )
            for path in folder.iterdir():
                path.chmod(0o644)
            (folder / DONE).touch()
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


def ensure_environment(places: Places, uv: Path, interpreter: Interpreter, wheels: dict[str, Path], name: str) -> Path:
    """The environment's folder, whole and at the locked versions."""
    lock = ROOT / "locks" / f"{name}.txt"
    own = [wheels[package] for package in OWN[name]]
    identity = hashlib.sha256(json.dumps([digest([lock]), interpreter.text, str(interpreter.path)]).encode())
    for wheel in own:
        identity.update(hashlib.sha256(wheel.read_bytes()).digest())
    folder = places.state / "platform" / f"{name}-{identity.hexdigest()[:12]}"
    if not (folder / DONE).exists():
        count = sum(line[:1].isalpha() and "==" in line for line in lock.read_text().splitlines())
        with step(f"Making the {name} environment: {count} packages, compiled, on Python {interpreter.text}"):
            _make(places, uv, interpreter, folder, lock, own)
    _point(places.environment(name), folder)
    return folder


def _make(places: Places, uv: Path, interpreter: Interpreter, folder: Path, lock: Path, own: list[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    folder.parent.chmod(0o755)
    env = uv_environment(places)
    run([uv, "venv", "--quiet", "--no-project", "--python", interpreter.path, folder], "Making an environment", env=env)
    install: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--compile-bytecode",
        "--no-deps",
        "--python",
        folder / "bin" / "python",
    ]
    run([*install, "--require-hashes", "-r", lock], f"Installing {lock.name}", env=env)
    run([*install, *own], "Installing Moorage's own packages", env=env)
    (folder / ".lock").unlink(missing_ok=True)  # uv leaves it for every uid to write, and to hold
    (folder / DONE).touch()


def remove_unused(places: Places) -> None:
    """Removes older versions that nothing runs from any more."""
    present = {(places.environment(name)).resolve() for name in OWN}
    running = _command_lines()
    folders = list((places.state / "platform").iterdir())
    unused = [each for each in folders if each.resolve() not in present and f"/{each.name}/" not in running]
    if unused:
        with step(f"Removing what nothing runs from any more: {', '.join(folder.name for folder in unused)}"):
            for folder in unused:
                shutil.rmtree(folder, ignore_errors=True)
    newest = sorted(places.wheels.iterdir(), key=lambda folder: folder.stat().st_mtime)
    for folder in newest[:-KEPT_WHEELS]:
        shutil.rmtree(folder, ignore_errors=True)


def _command_lines() -> str:
    """Of every process; a server's and a shim's begin with the path of its interpreter."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has just ended
    return "\n".join(found)


def _point(link: Path, folder: Path) -> None:
    """Makes `link` lead to `folder`, in one step."""
    if link.is_symlink() and link.resolve() == folder.resolve():
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(folder.relative_to(link.parent))
    temporary.replace(link)
    say(f"{link} is now {folder.name}")
