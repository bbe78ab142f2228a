"""The steps of a build that a pod does, as programs of the notebook image: `python -I -m moorage_images.pod_build STEP`.

- `describe` says which Python and which client the image has; `resolve` makes the lock, too, and says it. What they find is one line
  of the log, for whoever started the pod.
- `install` fills the folder of the environment by the lock; `try` starts a kernel there, when nobody can write in it any more.

Nothing here holds credentials, and packages' code may run in each, save that of packages with wheels in `resolve` and `install`. What
goes wrong is one JSON object in the file `--result`, of a pod its termination message: `error`, a code, and `message`, a sentence.
"""

import argparse
import base64
import gzip
import json
import os
import sys
import threading
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from moorage_images import interpreters, wheel
from moorage_images import plan as plans
from moorage_images.bounds import Bounds
from moorage_images.errors import BuildError, ImagesError
from moorage_images.install import forget_times, indented, install, try_kernel
from moorage_images.interpreters import Interpreter
from moorage_images.manifest import Manifest
from moorage_images.network import network_environment
from moorage_images.plan import EnvironmentPlan, Lock
from moorage_images.resolve import resolve
from moorage_images.sandbox import Sandbox
from moorage_images.wheel import ClientWheel

STEPS = ("describe", "resolve", "install", "try")
ENVIRONMENT = Path("/opt/moorage/environment")
UV = Path("/opt/moorage/bin/uv")
WHEELS = Path("/opt/moorage/wheels")
RESULT = Path("/dev/termination-log")
_FOUND = "moorage-found: "  # begins the line that says what was found
LONGEST_MESSAGE = 1500  # characters; a pod's termination message takes 4096 bytes
_LARGEST_FOUND = 16 << 20  # bytes
# The pod's own limits bound memory and disk.
_BOUNDS = Bounds(memory=1 << 60, free_disk=0, time_s=7 * 86400.0)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a pod is to build. `python`: an interpreter of the image; `lock`: for `install`."""

    python: str
    packages: tuple[str, ...] = ()
    from_source: bool = False
    lock: str = ""

    def encoded(self) -> bytes:
        """The same for the same task."""
        return gzip.compress(json.dumps(asdict(self)).encode(), mtime=0)

    @staticmethod
    def read(path: Path) -> "Task":
        said = json.loads(gzip.decompress(path.read_bytes()))
        return Task(**{**said, "packages": tuple(said["packages"])})


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the image has, and what its resolver made of the packages; `lock` is empty when it was not asked."""

    version: str  # of Python, with its patch
    architecture: str
    client: str
    client_version: str
    client_sha256: str
    lock: str = ""

    def line(self) -> str:
        return _FOUND + base64.b64encode(zlib.compress(json.dumps(asdict(self)).encode())).decode()

    @staticmethod
    def of(line: str) -> "Found | None":
        """None for any other line, and for one that is damaged."""
        if not line.startswith(_FOUND):
            return None
        try:
            unpacker = zlib.decompressobj()
            said = json.loads(unpacker.decompress(base64.b64decode(line.removeprefix(_FOUND)), _LARGEST_FOUND))
            return Found(**{name: str(text) for name, text in said.items()})
        except (ValueError, TypeError, AttributeError, zlib.error):
            return None

    def plan(self, python: str, manifest: Manifest) -> EnvironmentPlan:
        """What is built, told from outside the image."""
        interpreter = Interpreter(path=Path(python), version=self.version, architecture=self.architecture)
        client = ClientWheel(
            path=WHEELS, name=self.client, version=self.client_version, sha256=self.client_sha256, requires=()
        )
        return plans.plan(manifest, {manifest.python: interpreter}, client)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        _do(given)
    except (ImagesError, OSError) as raised:
        error = raised if isinstance(raised, ImagesError) else BuildError(f"The environment can't be built: {raised}.")
        say(error.message)
        given.result.write_text(json.dumps({"error": error.code, "message": error.message[:LONGEST_MESSAGE]}))
        return 1
    return 0


def _do(given: argparse.Namespace) -> None:
    task, never = Task.read(given.task), threading.Event()
    variables = network_environment(os.environ)
    if given.step == "try":
        say("Starting a kernel in it, for a trial.")
        with Sandbox(given.scratch / "try", None, {}, _BOUNDS) as sandbox:
            try_kernel(given.folder, sandbox, say, never)
        return
    plan = _plan(task, given.wheels)
    found = Found(
        version=plan.interpreter.version, architecture=plan.interpreter.architecture, client=plan.client.name,
        client_version=plan.client.version, client_sha256=plan.client.sha256,
    )  # fmt: skip
    if given.step == "describe":
        say(found.line())
        return
    with Sandbox(given.scratch / given.step, None, variables, _BOUNDS) as sandbox:
        if given.step == "resolve":
            say(f"Resolving {len(plan.requirements)} requirements for Python {plan.interpreter.version}.")
            lock = resolve(plan, sandbox, given.uv, from_source=task.from_source, log=indented(say), cancel=never)
            say(replace(found, lock=lock.text).line())
            return
        lock = Lock(text=task.lock, from_source=task.from_source)
        install(plan, lock, given.folder, sandbox, given.uv, say, never)
    forget_times(given.folder)


def _plan(task: Task, wheels: Path) -> EnvironmentPlan:
    clients = sorted(wheels.glob("moorage-*.whl"))
    if not clients:
        raise BuildError(f"The notebook image has no wheel of the client in {wheels}. An admin has to make it anew.")
    interpreter = interpreters.inspect(Path(task.python))
    manifest = Manifest(name="", python="", packages=task.packages)
    return plans.plan(manifest, {"": interpreter}, wheel.read(clients[-1]))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="moorage-pod-build", description="A step of an environment's build in a pod.")
    parser.add_argument("step", choices=STEPS)
    places: dict[str, tuple[Any, str]] = {
        "task": (Path("/etc/moorage/build/task"), "what is to be built"),
        "folder": (ENVIRONMENT, "where the environment is made, and lies in its image"),
        "uv": (UV, "the program that resolves and installs"),
        "wheels": (WHEELS, "the folder with the client's wheel"),
        "scratch": (Path("/tmp"), "a folder to work in"),  # noqa: S108 - the pod's own
        "result": (RESULT, "the file for what went wrong, as JSON"),
    }
    for name, (default, meaning) in places.items():
        parser.add_argument(f"--{name}", type=Path, default=default, help=f"{meaning} [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
