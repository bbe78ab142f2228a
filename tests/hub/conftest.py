"""A real hub behind a real proxy, with the service played by `tests.fakes.notebook_service`."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.environments import build_wheels, ensure_environment
from bootstrap.interpreter import all_can_read, choose
from bootstrap.node import ensure_proxy
from bootstrap.places import ROOT, prepare
from bootstrap.uv_tool import ensure_uv
from moorage_hub.state import prepare_state
from tests.hub.driver import RunningHub


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A prepared state folder of a test's own."""
    prepare_state(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture(scope="session")
def proxy_script() -> Path:
    places = prepare(ROOT / ".cache")
    interpreter = choose(places)
    return ensure_proxy(places, ensure_uv(places), interpreter)


@pytest.fixture(scope="session")
def server_python() -> Path:
    """An interpreter with JupyterLab that every uid can read: the tests' own, or one made outside a private home."""
    own = Path(sys.prefix) / "bin" / "python"
    if os.geteuid() != 0 or (all_can_read(own.resolve()) and all_can_read(Path(sys.prefix) / "pyvenv.cfg")):
        return own
    places = prepare(Path("/var/tmp/moorage-tests"))
    interpreter = choose(places)
    uv = ensure_uv(places)
    wheels = build_wheels(places, uv, interpreter)
    return ensure_environment(places, uv, interpreter, wheels, "server") / "bin" / "python"


@pytest.fixture(scope="module")
def hub(proxy_script: Path, server_python: Path) -> Iterator[RunningHub]:
    # Not below pytest's folder, which other uids may not enter.
    folder = Path(tempfile.mkdtemp(prefix="moorage-hub-"))
    folder.chmod(0o755)
    running = RunningHub(folder / "state", proxy_script, server_python)
    try:
        with running.serving():
            yield running
    finally:
        running.end_workloads()
        shutil.rmtree(folder, ignore_errors=True)
