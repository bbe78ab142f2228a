"""The API server does not answer: nothing is decided by what was known before, and how old that is can be read."""

import pytest

from moorage.wire import Phase
from moorage_service.notebooks import reconcile
from moorage_service.recovery import settle
from moorage_service.settings import Settings
from moorage_service.store.tables import WorkloadRow
from moorage_spawners.launch.api_objects import Unanswered
from moorage_spawners.launch.errors import StaleViewError
from moorage_spawners.launch.kubernetes_settings import Watch
from tests.service import notebook_pods_bench as notebooks
from tests.service.conftest import GIB, Headers
from tests.service.notebook_pods_bench import Desk
from tests.service.test_metrics import scrape
from tests.waiting import eventually

STALE_S = 2.0

desk = notebooks.desk
of_the_cluster = notebooks.settings


@pytest.fixture
def settings(of_the_cluster: Settings) -> Settings:
    assert of_the_cluster.kubernetes is not None
    watch = Watch(resync_s=60, silence_s=0.5, stale_s=STALE_S)
    return of_the_cluster.model_copy(
        update={"kubernetes": of_the_cluster.kubernetes.model_copy(update={"watch": watch})}
    )


def running(desk: Desk) -> str:
    answer = desk.admitted()
    desk.pod(answer)
    desk.until(answer["workload_id"], "starting")
    return str(answer["workload_id"])


def age(desk: Desk) -> float:
    return scrape(desk.client)["moorage_watch_age_seconds", ""]


def is_too_old(desk: Desk, workload: str) -> bool:
    try:
        desk.context.processes.observe(workload)
    except StaleViewError:
        return True
    return False


def test_what_was_not_borne_out_for_too_long_decides_nothing_and_a_gauge_says_how_long(desk: Desk) -> None:
    workload = running(desk)
    eventually(lambda: age(desk) < STALE_S, what="a picture that is fresh")
    desk.thread.wait(desk.kubernetes.leave())
    eventually(lambda: is_too_old(desk, workload), what="a picture that is too old")
    assert age(desk) > STALE_S
    assert list(reconcile.survey(desk.context, [workload])) == []
    assert desk.context.processes.observe_all() == []
    with pytest.raises(StaleViewError):
        reconcile.step(desk.context, workload)
    with desk.context.database.read() as session:
        assert session.get_one(WorkloadRow, workload).phase == Phase.STARTING.value
    desk.thread.wait(desk.kubernetes.come_back())
    eventually(lambda: not is_too_old(desk, workload), what="a picture that is fresh again")
    eventually(lambda: age(desk) < STALE_S, what="a gauge that says so")
    assert desk.kubernetes.ended == []


def test_one_that_nobody_can_look_for_hinders_no_other(desk: Desk, bob: Headers) -> None:
    """Nothing is seen of it, so the server itself would be asked; its own step meets the trouble, and comes again later and later."""
    seen = running(desk)
    asked = {"user": "bob", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": GIB}}
    unseen = desk.client.post("/api/v1/notebooks", headers=desk.spawner, json=asked).json()["workload_id"]
    desk.thread.wait(desk.kubernetes.leave())
    assert list(reconcile.survey(desk.context, [unseen, seen])) == [unseen]
    with pytest.raises(Unanswered):
        reconcile.step(desk.context, unseen)


def test_a_service_whose_store_is_a_copy_starts_though_nobody_says_what_runs(desk: Desk) -> None:
    """What lives by the copy lives on; its own next step says what became of it."""
    workload = running(desk)
    desk.thread.wait(desk.kubernetes.leave())
    eventually(lambda: is_too_old(desk, workload), what="a picture that is too old")
    mark = settle.mark_of(desk.context.settings.state)
    settle.Restored(desk.context.clock(), desk.context.clock()).write(mark)
    settle.settle(desk.context)
    assert not mark.exists()
    with desk.context.database.read() as session:
        assert session.get_one(WorkloadRow, workload).ended_at is None
