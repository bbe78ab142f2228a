"""Parts of a real Ray cluster are killed while a notebook works on it.

A worker is replaced and its tasks are done again. A head, or its control store, ends the cluster: the history and the notebook say why,
the kernel goes on with all it holds. What is reserved stays the same until the end, and is released once.
"""

import time
from collections.abc import Iterator

import pytest

from moorage_service.context import Context
from moorage_service.settings import Settings
from tests.faults.breakage import back_to_size, ended, held, kill
from tests.faults.checking import check
from tests.faults.drivers import Driver, DriverError, open_driver
from tests.faults.figures import Report, Scale
from tests.service.conftest import Headers
from tests.service.engines_bench import Bench, open_bench, open_settings
from tests.waiting import eventually

ATTACH = """
import moorage, ray
cluster = moorage.attach()
context = cluster.connect()
held = ray.put("precious")
mine = "kept"
@ray.remote
def slow(number):
    import time
    time.sleep(1)
    return number * number
"""
WORK = "value = ray.get([slow.remote(number) for number in range(4)])"


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=26900, start_timeout_s=300) as made:
        yield made


@pytest.fixture
def bench(context: Context, ada: Headers) -> Iterator[Bench]:
    with open_bench(context, ada) as made:
        yield made


def make(bench: Bench) -> str:
    cluster = bench.create(engine="ray", worker={"cpu": 1, "memory": 1 << 30})
    bench.wait(cluster, "ready", within=300)
    return cluster


def loses_its_head(bench: Bench, cluster: str, driver: Driver, program: str | None) -> float:
    """Kills it; seconds until the owner can read why."""
    reserved, _ = held(bench, cluster)
    kill(bench, cluster, "head", program=program)
    found, seconds = ended(bench, cluster, "failed")
    assert found["reason"].startswith("The head is gone:")
    assert "(objects, actors, futures) is lost" in found["reason"]
    assert held(bench, cluster) == (reserved, False)
    told = "value = [ray.is_initialized(), cluster.status, mine]"
    eventually(lambda: driver.run(told)[0] is False, within=120, what="the kernel letting go")
    _, status, mine = driver.run(told)
    assert "failed - The head is gone" in status
    assert mine == "kept"
    with pytest.raises(DriverError, match="is failed: The head is gone"):
        driver.run("cluster.connect()")
    return seconds


@pytest.mark.timeout(3600)
def test_parts_of_a_ray_cluster_killed_under_a_notebook(bench: Bench, scale: Scale, report: Report) -> None:
    """In the short form the control store is killed, which ends the head as well; in the full one also the head by itself."""
    rounds = 10 if scale.full else 1
    programs = (None, "gcs_server") if scale.full else ("gcs_server",)
    back, told = [], []
    for program in rounds * programs:
        cluster = make(bench)
        with open_driver(bench) as driver:
            driver.run(ATTACH)
            back.append(loses_a_worker(bench, cluster, driver))
            told.append(loses_its_head(bench, cluster, driver, program))
    bench.end_notebook()
    check(bench.context)
    report(15, workers_lost=len(back), heads_lost=rounds * programs.count(None), control_stores_lost=rounds, wrong_results=0,
           slowest_s_back_to_size=round(max(back), 1), slowest_s_to_the_reason=round(max(told), 1))  # fmt: skip


def loses_a_worker(bench: Bench, cluster: str, driver: Driver) -> float:
    """While it works; seconds until another has its place."""
    reserved = held(bench, cluster)
    driver.start(WORK)
    eventually(lambda: bench.busy(cluster), within=120, what="the tasks")
    kill(bench, cluster, "worker-1")
    begun = time.perf_counter()
    assert driver.answer() == [0, 1, 4, 9]
    back_to_size(bench, cluster, "worker-2")
    seconds = time.perf_counter() - begun
    assert any("worker-1 is gone" in event["message"] for event in bench.cluster(cluster)["events"])
    assert driver.run("value = ray.get(held)") == "precious"
    assert held(bench, cluster) == reserved
    return seconds
