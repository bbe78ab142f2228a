"""A place for builds that other uids may pass through (pytest's own folders are for their owner alone), and what they need."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage_images import build as images
from moorage_images import interpreters, wheel
from moorage_images import plan as plans
from moorage_images.environments import EnvironmentRecord
from moorage_images.interpreters import Interpreter
from moorage_images.manifest import Manifest
from moorage_images.sandbox import Log
from tests.fakes.package_index import PackageIndex, client_wheel
from tests.images.places import find_uv, open_python

Build = Callable[..., EnvironmentRecord]


@pytest.fixture
def places(open_folder: Path, index: PackageIndex) -> images.BuildPlaces:
    """As root with throwaway identities, else as ourselves: what the product does on this machine."""
    state = open_folder / "state"
    state.mkdir()
    return images.BuildPlaces(
        environments=state / "environments", cache=state / "build-cache", scratch=state / "scratch", uv=find_uv(),
        accounts=range(65700, 65800) if os.geteuid() == 0 else None, network=index.variables,
    )  # fmt: skip


@pytest.fixture
def interpreter() -> Interpreter:
    return interpreters.inspect(open_python())


@pytest.fixture
def build(open_folder: Path, places: images.BuildPlaces, interpreter: Interpreter) -> Build:
    """build("tide==1.0", project=..., log=..., cancel=...) -> the environment's record."""
    client = wheel.read(client_wheel(open_folder / "client"))

    def run(
        *packages: str, project: str = "pr-1", log: Log = lambda _line: None, cancel: threading.Event | None = None
    ) -> EnvironmentRecord:
        manifest = Manifest(name="Test", python="3", packages=packages)
        plan = plans.plan(manifest, {"3": interpreter}, client)
        return images.build(plan, project, places, log=log, cancel=cancel or threading.Event())

    return run
