"""Clusters from their request to their end: real processes, real Ray and Dask, the real agent, over real HTTP."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage_service.context import Context
from moorage_service.settings import PREFIX, Settings
from tests.service.conftest import Headers
from tests.service.engines_bench import Bench, engine_environment, open_bench, open_settings
from tests.waiting import eventually


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings() as made:
        yield made


@pytest.fixture
def bench(context: Context, ada: Headers) -> Iterator[Bench]:
    with open_bench(context, ada) as made:
        yield made


def drive(bench: Bench, cluster_id: str, code: str, *, timeout: float = 90) -> str:
    """Runs a driver as the owner's kernel would, with what `attach` gave; returns what it wrote."""
    attach = bench.attach(cluster_id)
    folder = Path(tempfile.mkdtemp(prefix="mo-driver-"))
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "ADDRESS": attach["address"], "PYTHONWARNINGS": "default"}
    if attach["token"]:
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": attach["token"]}
    else:
        for name in ("ca", "cert", "key"):
            (folder / f"{name}.pem").write_text(attach[f"tls_{name}"])
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = bench.context.settings.uid_first + 1
        for path in (folder, *folder.iterdir()):
            os.chown(path, user, user)
        options = {"user": user, "group": user, "extra_groups": []}
    python = str(engine_environment() / "bin" / "python")
    found = subprocess.run(
        [python, "-c", code],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    shutil.rmtree(folder)
    assert found.returncode == 0, found.stderr[-3000:]
    return str(found.stdout)


RAY_DRIVER = """
import os, ray
ray.init(os.environ["ADDRESS"], log_to_driver=False)
@ray.remote(num_cpus=1)
def where(seconds):
    import time
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()
print(len(set(ray.get([where.remote({seconds}) for _ in range({tasks})]))))
"""

DASK_DRIVER = """
import os, time
from distributed import Client
from distributed.security import Security
security = Security(tls_ca_file="ca.pem", tls_client_cert="cert.pem", tls_client_key="key.pem", require_encryption=True)
with Client(os.environ["ADDRESS"], security=security) as client:
    def where(i):
        from distributed import get_worker
        time.sleep({seconds})
        return get_worker().name
    print(len(set(client.gather(client.map(where, range({tasks}), pure=False)))))
"""


def look(bench: Bench, path: str) -> str:
    """What the owner sees at a path below the origin."""
    answer = bench.http.get(path.removeprefix(PREFIX), headers=bench.headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def cluster_nodes(answer: str) -> int:
    return sum(1 for node in json.loads(answer)["data"]["summary"] if node["raylet"]["state"] == "ALIVE")


def test_a_ray_cluster_lives_from_request_to_end(bench: Bench) -> None:
    cluster = bench.create(engine="ray", max_workers=2)
    ready = bench.wait(cluster, "ready")
    assert ready["workers"] == 1
    assert ready["versions"]["ray"] == "2.60.0"
    assert "<title>Ray Dashboard</title>" in look(bench, ready["dashboard"])
    assert cluster_nodes(look(bench, f"{ready['dashboard']}nodes?view=summary")) == 2
    assert drive(bench, cluster, RAY_DRIVER.format(seconds=0.01, tasks=4)) == "1\n"
    assert drive(bench, cluster, RAY_DRIVER.format(seconds=2, tasks=10)) == "2\n"
    eventually(lambda: bench.cluster(cluster)["workers"] == 1, within=30, what="shrinking")
    eventually(lambda: bench.idle_s(cluster) > 0, within=30, what="idleness, once the driver has gone")
    ended = bench.stop(cluster)
    assert ended["phase"] == "stopped"
    assert ended["holds"] == {}
    eventually(lambda: not bench.context.processes.observe(cluster), what="tidying up")
    assert "==> head <==" in bench.log(cluster)


def test_a_dask_cluster_lives_from_request_to_end(bench: Bench) -> None:
    cluster = bench.create(engine="dask", max_workers=2)
    ready = bench.wait(cluster, "ready")
    assert ready["versions"]["distributed"] == "2026.8.0"
    script = re.search(r'src="([^"]+/bokeh.min.js[^"]*)"', look(bench, ready["dashboard"]))
    assert script is not None
    assert "Bokeh" in look(bench, script[1])
    assert drive(bench, cluster, DASK_DRIVER.format(seconds=0.01, tasks=4)) == "1\n"
    assert drive(bench, cluster, DASK_DRIVER.format(seconds=1, tasks=14)) == "2\n"
    eventually(lambda: bench.cluster(cluster)["workers"] == 1, within=30, what="shrinking")
    eventually(lambda: bench.idle_s(cluster) > 0, within=30, what="idleness, once the driver has gone")
    assert bench.stop(cluster)["phase"] == "stopped"
