"""Runs with a cluster of their own: real Ray and Dask, admitted together, gone afterwards whatever happens."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moorage_service.context import Context, make_context
from moorage_service.identity.hub import HubClient
from moorage_service.settings import Inventory, Settings
from tests.fakes.hub import FakeHub
from tests.images.places import find_uv, open_python
from tests.service.conftest import GIB, Headers
from tests.service.engines_bench import ENGINES, ROOT, free_port, furnish
from tests.service.jobs_bench import held, notebook
from tests.service.test_runs import Service
from tests.waiting import eventually

SUM = {
    "ray": (
        "import moorage\ncluster = moorage.attach(engine='ray')\ncluster.connect()",
        "import ray\nprint('answer', sum(ray.get([ray.remote(lambda x: x * x).remote(n) for n in range(4)])))",
    ),
    "dask": (
        "import moorage\nclient = moorage.attach(engine='dask').connect()",
        "print('answer', sum(client.gather(client.map(lambda x: x * x, range(4)))))",
    ),
}


@pytest.fixture(scope="session")
def environment() -> Path:
    """What a project's environment holds: both engines, a kernel and our client. Built once, and kept beside the caches."""
    packages = (*ENGINES, "ipykernel>=7", "ipywidgets>=8.1", "anywidget>=0.9", "httpx>=0.27", "pyyaml", "rich", "typer")
    digest = hashlib.sha256(json.dumps(packages).encode()).hexdigest()[:12]
    top = Path("/tmp") if os.geteuid() == 0 else Path.home() / ".cache"
    kept = top / f"moorage-test-project-{os.getuid()}-{digest}"
    uv = str(find_uv())
    if not (kept / "ready").exists():
        shutil.rmtree(kept, ignore_errors=True)
        subprocess.run(
            [uv, "venv", "-q", "--python", str(open_python()), str(kept)], check=True, timeout=120, umask=0o022
        )
        install = [
            uv,
            "pip",
            "install",
            "-q",
            "--compile-bytecode",
            "--python",
            str(kept / "bin" / "python"),
            *packages,
        ]
        subprocess.run(install, check=True, timeout=900, umask=0o022)
        (kept / "ready").touch()
    site = next((kept / "lib").glob("python*/site-packages"))
    shutil.copytree(ROOT / "extensions" / "moorage", site / "moorage", dirs_exist_ok=True)
    return kept


@pytest.fixture
def settings() -> Iterator[Settings]:
    folder = Path(tempfile.mkdtemp(prefix="mo-", dir="/tmp"))
    folder.chmod(0o755)
    yield Settings(
        state=folder, port=free_port(), inventory=Inventory(cpu=8, memory=32 * GIB, gpus={}), reconcile_s=0.2,
        hub_token_cache_s=0, seed_starter=False, port_first=27000, port_blocks=4,
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def context(settings: Settings, hub: FakeHub) -> Iterator[Context]:
    made = make_context(settings)
    token_file = settings.secrets / "service-to-hub"
    token_file.write_text(hub.service_token)
    client = HubClient(settings.hub_api_url, token_file, cache_s=0, transport=hub.transport())
    made.hub.close()
    yield replace(made, hub=client)
    client.close()
    made.database.close()


@pytest.fixture
def service(context: Context, people: dict[str, Headers], environment: Path) -> Iterator[Service]:
    furnish(context, environment, "ada")
    made = Service(context, people["ada"])
    made.start()
    yield made
    made.stop()
    for seen in context.processes.observe_all():
        context.processes.stop(seen.workload_id, grace_s=0)
    eventually(lambda: all(one.gone for one in context.processes.observe_all()), what="the end of all processes")
    made.http.close()


def clusters(service: Service) -> set[str]:
    """Ids of clusters that hold anything."""
    return {name for name in held(service.context) if name.startswith("cl-")}


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_a_run_works_on_its_own_cluster_which_is_gone_afterwards(service: Service, engine: str) -> None:
    run_id = service.start_run(service.promote(notebook(*SUM[engine])))
    run = service.until(run_id, "succeeded", "failed", within=120)
    assert run["phase"] == "succeeded", (run["reason"], service.http.get(f"/runs/{run_id}/log").text)
    assert "answer 14" in service.http.get(f"/runs/{run_id}/log").text
    eventually(lambda: not clusters(service), within=60, what="the cluster's end")
    cluster = service.http.get(f"/clusters/{run['cluster']}").json()
    assert cluster["phase"] == "stopped"
    assert "run.waits-for-cluster" in [event["code"] for event in run["events"]]


def test_a_run_that_fails_takes_its_cluster_with_it(service: Service) -> None:
    run_id = service.start_run(service.promote(notebook(SUM["dask"][0], "1 / 0")))
    run = service.until(run_id, "succeeded", "failed", within=120)
    assert run["reason"] == "Cell 2 failed: ZeroDivisionError: division by zero."
    eventually(lambda: not clusters(service), within=60, what="the cluster's end")


def test_a_run_is_cancelled_while_its_cluster_starts(service: Service) -> None:
    run_id = service.start_run(service.promote(notebook(*SUM["ray"])))
    eventually(lambda: service.run(run_id)["phase"] == "starting", within=30, what="the cluster's start")
    service.http.delete(f"/runs/{run_id}")
    assert service.until(run_id, "cancelled", "failed")["phase"] == "cancelled"
    eventually(lambda: not clusters(service), within=60, what="the cluster's end")


def test_a_run_is_admitted_with_its_cluster_or_not_at_all(service: Service, admin: Headers) -> None:
    """1 cpu would do for the run, and does not do for the cluster: neither holds anything."""
    limit = {"scope": "user", "name": "ada", "resource": "cpu", "amount": 1}
    service.http.post("/limits", json=limit, headers=admin).raise_for_status()
    run_id = service.start_run(service.promote(notebook(*SUM["dask"])))
    eventually(lambda: service.run(run_id)["reason_code"] == "limit.refused", what="the refusal")
    assert "room for itself and its cluster together" in service.run(run_id)["reason"]
    assert clusters(service) == set()
    assert run_id not in held(service.context)
    service.http.delete(f"/runs/{run_id}")
    assert service.until(run_id, "cancelled")["phase"] == "cancelled"
