"""What the tests of several distributions share: real builds, in a folder that other uids may pass through, from a small index."""

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from moorage_images import build as images
from moorage_images import interpreters, wheel
from moorage_images import plan as plans
from moorage_images.bounds import Bounds
from moorage_images.environments import EnvironmentRecord
from moorage_images.interpreters import Interpreter
from moorage_images.manifest import Manifest
from moorage_images.sandbox import Log
from moorage_images.seal import remove
from tests.fakes.package_index import PackageIndex, client_wheel, small_index
from tests.images.places import find_uv, open_python
from tests.side_by_side import SideBySide, arrange

# Of each process of tests its own: to end a build is to end all that runs under its uid.
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
BUILDERS = range(65700 + 100 * _PROCESS, 65800 + 100 * _PROCESS)
Build = Callable[..., EnvironmentRecord]

# A service that a test starts leaves no rules in this machine's own network; the story raises its wall, and takes it away.
os.environ.setdefault("MOORAGE_SERVICE_PORT_WALL", "off")

# Nothing here asserts how long anything takes: the machine may be busy.
settings.register_profile("moorage", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("moorage")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        arrange(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where all must run (MOORAGE_KUBE=required, as in CI), a test that is skipped has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("MOORAGE_KUBE") == "required":
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped: {report.longrepr}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failure is named at once: the whole takes a quarter of an hour, and its details come at the end."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stdout.write(f"\nFAILED {report.nodeid} ({report.when})\n")
        sys.stdout.flush()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where other uids may pass: pytest's own folders are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="moorage-builds-"))
    folder.chmod(0o755)
    yield folder
    remove(folder)


@pytest.fixture
def index(open_folder: Path) -> PackageIndex:
    folder = open_folder / "index"
    folder.mkdir()
    return small_index(folder)


@pytest.fixture
def places(open_folder: Path, index: PackageIndex) -> images.BuildPlaces:
    """As root with throwaway identities, else as ourselves: what the product does on this machine."""
    state = open_folder / "state"
    state.mkdir()
    return images.BuildPlaces(
        environments=state / "environments", cache=state / "build-cache", scratch=state / "scratch", uv=find_uv(),
        accounts=BUILDERS if os.geteuid() == 0 else None, network=index.variables, bounds=Bounds(),
    )  # fmt: skip


@pytest.fixture
def interpreter() -> Interpreter:
    return interpreters.inspect(open_python())


@pytest.fixture
def build(open_folder: Path, places: images.BuildPlaces, interpreter: Interpreter) -> Build:
    """build("tide==1.0", project=..., log=..., cancel=..., network=..., memory=...) -> the environment's record."""
    client = wheel.read(client_wheel(open_folder / "client"))

    def run(
        *packages: str,
        project: str = "pr-1",
        log: Log = lambda _line: None,
        cancel: threading.Event | None = None,
        network: Mapping[str, str] | None = None,
        **bounds: Any,
    ) -> EnvironmentRecord:
        manifest = Manifest(name="Test", python="3", packages=packages)
        plan = plans.plan(manifest, {"3": interpreter}, client)
        bounded = replace(places, bounds=replace(places.bounds, **bounds), network=network or places.network)
        return images.build(plan, project, bounded, log=log, cancel=cancel or threading.Event())

    return run
