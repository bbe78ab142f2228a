"""Parts of a real Dask cluster are killed while a notebook works on it.

A worker is replaced and its results are computed anew. A scheduler that is killed, or that reaches its memory limit, ends the cluster
with that reason; the kernel goes on. What is reserved stays the same until the end, and is released once.
"""

import time
from collections.abc import Callable, Iterator

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

Way = Callable[[Bench, str, Driver], float]
ATTACH = """
import moorage
cluster = moorage.attach()
client = cluster.connect()
mine = "kept"
def slow(number):
    import time
    time.sleep(1)
    return number * number
"""
WORK = "value = client.gather(client.map(slow, range(4), pure=False))"
EAT = """
def eat():
    held = []
    while True:
        held.append(bytearray(1 << 24))
value = client.run_on_scheduler(eat)
"""


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=27300, start_timeout_s=300) as made:
        yield made


@pytest.fixture
def bench(context: Context, ada: Headers) -> Iterator[Bench]:
    with open_bench(context, ada) as made:
        yield made


def make(bench: Bench) -> str:
    cluster = bench.create(engine="dask", worker={"cpu": 1, "memory": 1 << 30}, head={"cpu": 1, "memory": 1 << 29})
    bench.wait(cluster, "ready", within=300)
    return cluster


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
    assert held(bench, cluster) == reserved
    return seconds


@pytest.mark.timeout(3600)
def test_parts_of_a_dask_cluster_killed_under_a_notebook(bench: Bench, scale: Scale, report: Report) -> None:
    """In the short form it loses a worker, then its scheduler at the memory limit, where sizes bind; in the full one in both ways."""
    rounds = 10 if scale.full else 1
    ways = ways_to_end(bench.context.machine.limits_enforced() is None, scale)
    back, told = [], []
    for way in rounds * ways:
        cluster = make(bench)
        with open_driver(bench) as driver:
            driver.run(ATTACH)
            back.append(loses_a_worker(bench, cluster, driver))
            told.append(way(bench, cluster, driver))
    bench.end_notebook()
    check(bench.context)
    report(16, workers_lost=len(back), schedulers_killed=rounds * ways.count(is_killed), wrong_results=0,
           schedulers_out_of_memory=rounds * ways.count(runs_out_of_memory), slowest_s_back_to_size=round(max(back), 1),
           slowest_s_to_the_reason=round(max(told), 1))  # fmt: skip


def ways_to_end(sizes_bind: bool, scale: Scale) -> tuple[Way, ...]:
    if not sizes_bind:  # limits are advisory on this machine: there is none to run into
        return (is_killed,)
    return (is_killed, runs_out_of_memory) if scale.full else (runs_out_of_memory,)


def is_killed(bench: Bench, cluster: str, driver: Driver) -> float:
    kill(bench, cluster, "head")
    seconds = ends_with(bench, cluster, "cluster.head_ended", "is lost. Create the cluster again")
    assert "failed - The scheduler is gone" in driver.run("value = cluster.status")
    with pytest.raises(DriverError, match="is failed: The scheduler is gone"):
        driver.run("cluster.connect()")
    assert driver.run("value = mine") == "kept"
    return seconds


def runs_out_of_memory(bench: Bench, cluster: str, driver: Driver) -> float:
    driver.start(EAT)
    seconds = ends_with(bench, cluster, "cluster.head_out_of_memory", "it ran out of memory")
    with pytest.raises(DriverError):  # what waited for the scheduler is told
        driver.answer()
    assert "Give it more memory (head)" in driver.run("value = cluster.status")
    assert driver.run("value = mine") == "kept"
    return seconds


def ends_with(bench: Bench, cluster: str, code: str, words: str) -> float:
    """Waits for the end; seconds until the owner can read why."""
    reserved, _ = held(bench, cluster)
    found, seconds = ended(bench, cluster, "failed")
    assert found["reason_code"] == code
    assert found["reason"].startswith("The scheduler is gone:")
    assert words in found["reason"]
    assert held(bench, cluster) == (reserved, False)
    return seconds
