"""A kernel's driver against real clusters: the real service, real Ray and Dask, and this client in a Python of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage_service.context import Context
from moorage_service.settings import Inventory, Settings
from tests.ports import free_port
from tests.service.conftest import GIB, Headers, clock, context, hub, people
from tests.service.engines_bench import Bench, engine_environment, furnish, serve

__all__ = ["clock", "context", "hub", "people"]  # fixtures of the service's tests, found here by pytest

Drive = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def libraries() -> Iterator[Path]:
    """The client and what it needs, beside an environment that has the engines only."""
    with tempfile.TemporaryDirectory(prefix="mo-client-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        here = Path(sys.modules["httpx"].__path__[0]).parent
        for package in ("httpx", "httpcore", "h11", "anyio", "certifi", "idna", "typing_extensions.py"):
            (folder / package).symlink_to(here / package)
        (folder / "moorage").symlink_to(Path(__file__).parents[2] / "extensions" / "moorage")
        yield folder


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="mo-", ignore_cleanup_errors=True) as state:
        Path(state).chmod(0o755)
        yield Settings(
            state=Path(state), port=free_port(), inventory=Inventory(cpu=8, memory=32 * GIB, gpus={}), reconcile_s=0.2,
            hub_token_cache_s=0, seed_starter=False, port_first=26400, port_blocks=10, scale_idle_s=2.0,
        )  # fmt: skip


@pytest.fixture
def bench(context: Context, people: dict[str, Headers]) -> Iterator[Bench]:
    notebook = furnish(context, engine_environment(), "ada")
    with serve(context):
        made = Bench(context, people["ada"], notebook)
        yield made
        for cluster in made.http.get("/api/v1/clusters", headers=notebook).json():
            made.stop(cluster["id"])
        made.http.close()


@pytest.fixture
def drive(bench: Bench, libraries: Path) -> Drive:
    """Runs code as the notebook's kernel would; gives the JSON of its last line."""

    def run(code: str) -> dict[str, Any]:
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp",
            "PYTHONPATH": str(libraries),
            "PYTHONWARNINGS": "default",
            "MOORAGE_API_URL": bench.http.base_url.copy_with(path="/services/moorage").__str__(),
            "MOORAGE_TOKEN": bench.notebook["Authorization"].removeprefix("Bearer "),
            "MOORAGE_PROJECT": "starter",
            "MOORAGE_PUBLIC_URL": "http://hub.test",
        }
        command = [str(engine_environment() / "bin" / "python"), "-c", f"import json, moorage\n{code}"]
        found = subprocess.run(
            command, env=env, cwd="/tmp", capture_output=True, text=True, timeout=150, check=False, **_as_ada(bench)
        )
        assert found.returncode == 0, found.stderr[-3000:]
        return dict(json.loads(found.stdout.splitlines()[-1]))

    return run


def _as_ada(bench: Bench) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    uid = bench.context.settings.uid_first + 1
    return {"user": uid, "group": uid, "extra_groups": []}


RAY = """
cluster = moorage.attach(engine="ray")
context = cluster.connect()
import ray
squares = ray.get([ray.remote(lambda number: number * number).remote(number) for number in range(4)])
again = cluster.connect() is context
native = type(context).__name__
link = context.dashboard_url
from moorage import connect
connect.disconnect(cluster.id)
once_more = cluster.connect() is not context
cluster.stop()
print(json.dumps({"squares": squares, "again": again, "once_more": once_more, "native": native, "link": link,
    "connected": ray.is_initialized()}))
"""

GONE = """
import threading, ray
cluster = moorage.attach()
cluster.connect()
from moorage.client import Client
from moorage import calls
Client.here().send(calls.stop_cluster(cluster.id))  # as the portal would: this kernel is not told
end = threading.Event()
for _ in range(600):
    if not ray.is_initialized():
        break
    end.wait(0.1)
print(json.dumps({"connected": ray.is_initialized()}))
"""

REFUSED = """
import dataclasses
from moorage import calls, connect, errors
from moorage.client import Client
cluster = moorage.attach()
attach = Client.here().send(calls.attach_cluster(cluster.id))
def why(**changes):
    try:
        connect.connect(cluster.id, cluster.name, dataclasses.replace(attach, **changes))
    except errors.ClusterError as error:
        return [type(error).__name__, error.message]
print(json.dumps({
    "token": why(token="of another cluster, quite long enough to be one"),
    "away": why(probe_url="http://127.0.0.1:9"),
    "version": why(probe_url=None, versions={"python": "3.8.0", "ray": "2.60.0"}),
}))
"""

DASK = """
cluster = moorage.attach(engine="dask")
client = cluster.connect()
total = client.submit(sum, [1, 2, 3]).result()
again = cluster.connect() is client
link = client.dashboard_link
secure = client.scheduler.address.startswith("tls://")
cluster.stop(wait=True)
print(json.dumps({"total": total, "again": again, "link": link, "secure": secure, "status": client.status,
    "phase": cluster.phase}))
"""


def test_ray_from_a_kernel(bench: Bench, drive: Drive) -> None:
    cluster_id = bench.create(engine="ray")
    found = drive(RAY)
    assert found["squares"] == [0, 1, 4, 9]
    assert found["native"] == "RayContext", "a native driver, for the versions are the same"
    assert found["again"], "connecting twice is connecting once"
    assert found["once_more"]
    assert found["link"].startswith(f"hub.test/services/moorage/dashboards/{cluster_id}/")
    assert not found["connected"], "stop lets go first"


def test_a_kernel_outlives_its_ray_cluster_and_bad_connections_are_sentences(bench: Bench, drive: Drive) -> None:
    bench.create(engine="ray")
    refused = drive(REFUSED)
    assert refused["token"][0] == "ConnectRefused"
    assert "refuses this token" in refused["token"][1]
    assert refused["away"][0] == "ConnectRefused"
    assert "could not be reached" in refused["away"][1]
    assert refused["version"][0] == "VersionMismatch"
    assert not drive(GONE)["connected"]


def test_dask_from_a_kernel(bench: Bench, drive: Drive) -> None:
    cluster_id = bench.create(engine="dask")
    found = drive(DASK)
    assert (found["total"], found["again"], found["secure"]) == (6, True, True)
    assert found["link"].startswith(f"http://hub.test/services/moorage/dashboards/{cluster_id}/")
    assert found["status"] == "closed"
    assert found["phase"] == "stopped"
