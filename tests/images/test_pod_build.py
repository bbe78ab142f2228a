"""The steps that pods do, each as its own process with a real uv, as in a pod; and what is told from outside."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pytest

from moorage import folders
from moorage_images import plan as plans
from moorage_images.interpreters import Interpreter
from moorage_images.manifest import Manifest
from moorage_images.oci.layers import write_layers
from moorage_images.plan import Lock
from moorage_images.pod_build import Found, Task
from tests.fakes.package_index import PackageIndex, client_wheel
from tests.images.places import find_uv


@dataclass(frozen=True)
class Pod:
    """Its folders; what one step leaves the next one finds."""

    root: Path
    index: PackageIndex

    @property
    def environment(self) -> Path:
        return self.root / "environment"

    def run(self, step: str, task: Task) -> "subprocess.CompletedProcess[str]":
        given = {
            "task": self.root / "task", "folder": self.environment, "uv": find_uv(), "wheels": self.root / "wheels" / "moorage",
            "scratch": self.root, "result": self.root / "result",
        }  # fmt: skip
        given["task"].write_bytes(task.encoded())
        given["result"].write_text("")
        argv = [sys.executable, "-I", "-m", "moorage_images.pod_build", step]
        argv += [part for name, place in given.items() for part in (f"--{name}", str(place))]
        env = {"PATH": os.environ["PATH"], **self.index.variables}
        return subprocess.run(argv, env=env, capture_output=True, text=True)

    def failure(self) -> dict[str, str]:
        said: dict[str, str] = json.loads((self.root / "result").read_text())
        return said

    def resolved(self, task: Task) -> tuple[Found, str]:
        done = self.run("resolve", task)
        assert done.returncode == 0, done.stdout + done.stderr
        *log, last = done.stdout.splitlines()
        found = Found.of(last)
        assert found is not None
        return found, "\n".join(log)

    def build(self, task: Task) -> Path:
        """The tree, as a fresh pod makes it."""
        folders.remove(self.environment)
        self.environment.mkdir()
        found, _ = self.resolved(task)
        done = self.run("install", replace(task, lock=found.lock))
        assert done.returncode == 0, done.stdout + done.stderr
        return self.environment


@pytest.fixture
def pod(tmp_path: Path, index: PackageIndex) -> Pod:
    client_wheel(tmp_path / "wheels")
    return Pod(tmp_path, index)


@pytest.fixture
def task(interpreter: Interpreter) -> Task:
    return Task(python=str(interpreter.path), packages=("tide==1.0",))


def test_the_lock_and_the_image_are_told_in_one_line(pod: Pod, task: Task, interpreter: Interpreter) -> None:
    found, log = pod.resolved(task)
    assert log.startswith("Resolving ")
    assert (found.version, found.architecture) == (interpreter.version, interpreter.architecture)
    manifest = Manifest(name="Fish", python="3", packages=task.packages)
    plan = found.plan(task.python, manifest)
    lock = Lock(text=found.lock, from_source=False)
    assert plans.locked(plan, lock)["tide"] == "1.0"
    assert plans.locked(plan, lock)["moorage"] == found.client_version
    assert plans.digest(plan, lock, "pr-1") == plans.digest(plan, lock, "pr-2")


def test_a_line_of_the_log_that_is_damaged_or_anothers_is_nothing(pod: Pod, task: Task) -> None:
    found, _ = pod.resolved(task)
    assert Found.of(found.line()) == found
    for line in ("  tide==1.0", found.line()[:-20], found.line()[:20], "moorage-found: bm9uZQ=="):
        assert Found.of(line) is None


def test_two_builds_give_the_same_layers(pod: Pod, task: Task, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        tree = pod.build(task)
        (tmp_path / name).mkdir()
        home = PurePosixPath((tree / "bin" / "python").readlink())
        layers = write_layers(tree, tmp_path / name, interpreter=home, prefix=PurePosixPath(tree))
        digests.append([one.digest for one in layers])
    assert digests[0] == digests[1]


def test_a_kernel_is_tried(pod: Pod, task: Task) -> None:
    tree = pod.build(task)
    assert pod.run("try", task).returncode == 0
    (package,) = tree.glob("lib/python3*/site-packages/ipykernel/__init__.py")
    package.write_text("raise RuntimeError('no kernel today')\n")
    folders.remove(package.parent / "__pycache__")
    assert pod.run("try", task).returncode == 1
    assert "no kernel today" in pod.failure()["message"]


def test_what_needs_sources_says_so_by_its_code(pod: Pod, task: Task) -> None:
    pod.index.source("brine", "1.0", "extra = {}")
    wanted = replace(task, packages=("brine",))
    assert pod.run("resolve", wanted).returncode == 1
    assert pod.failure()["error"] == "no_wheel"
    found, _ = pod.resolved(replace(wanted, from_source=True))
    assert "brine==1.0" in found.lock


def test_what_is_not_there_is_told_in_a_sentence(pod: Pod, task: Task) -> None:
    assert pod.run("resolve", replace(task, packages=("tide==9.0",))).returncode == 1
    said = pod.failure()
    assert said["error"] == "build_failed"
    assert "tide==9.0" in said["message"]


def test_a_lock_with_other_hashes_is_not_installed(pod: Pod, task: Task) -> None:
    found, _ = pod.resolved(task)
    pod.environment.mkdir()
    wrong = re.sub("sha256:[0-9a-f]{4}", "sha256:0000", found.lock)
    assert pod.run("install", replace(task, lock=wrong)).returncode == 1
    assert "can't be installed" in pod.failure()["message"]
