"""Runs with a cluster of their own: real Ray and Dask, admitted together, gone afterwards whatever happens."""

from collections.abc import Iterator

import pytest

from moorage_service.context import Context
from moorage_service.settings import Settings
from tests.service.conftest import Headers
from tests.service.engines_bench import engine_environment, furnish, open_settings
from tests.service.jobs_bench import held, notebook
from tests.service.runs_bench import Service
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


# What a notebook needs beside the engines: a kernel, and what our client stands on.
KERNEL = ("ipykernel>=7", "ipywidgets>=8.1", "anywidget>=0.9", "httpx>=0.27", "pyyaml", "rich", "typer")


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=27000, port_blocks=4) as made:
        yield made


@pytest.fixture
def service(context: Context, people: dict[str, Headers]) -> Iterator[Service]:
    furnish(context, engine_environment(*KERNEL), "ada")
    made = Service(context, people["ada"])
    made.start()
    yield made
    made.close()


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
