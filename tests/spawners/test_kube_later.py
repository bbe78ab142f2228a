"""A notebook's pod after its start: looked at, found again, taken over, ended."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage_spawners.kube import ProjectKubeSpawner
from moorage_spawners.launch.api_objects import Unanswered
from tests.spawners.kube_scene import NAMESPACE, POD, Scene, scene


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as made:
        yield made


async def started(kube: Scene, address: str = "10.1.2.3") -> ProjectKubeSpawner:
    spawner = kube.spawner()
    starting = kube.start(spawner)
    await kube.made()
    kube.answers(address)
    await starting
    await kube.until(lambda: kube.service.observations[-1]["state"] == "ready")
    return spawner


async def test_how_it_ended_is_the_hubs_to_know(kube: Scene) -> None:
    spawner = await started(kube)
    kube.ends(137, reason="OOMKilled")
    assert await spawner.poll() == 137
    kube.ends(0)
    assert await spawner.poll() == 0
    kube.kubernetes.remove(POD, NAMESPACE)
    assert await spawner.poll() == 0


async def test_a_pod_on_a_machine_that_fell_silent_is_not_gone(kube: Scene) -> None:
    spawner = await started(kube)
    kube.happens({"running": {}}, "Failed", reason="NodeLost")
    assert await spawner.poll() is None


async def test_what_cant_be_asked_is_not_dead_and_is_not_ended(kube: Scene) -> None:
    spawner = await started(kube)
    await kube.kubernetes.leave()
    assert await spawner.poll() is None
    with pytest.raises(Unanswered):
        await spawner.stop()
    await kube.kubernetes.come_back()
    assert await spawner.poll() is None
    assert kube.kubernetes.ended == []


async def test_a_stop_waits_until_nothing_runs(kube: Scene) -> None:
    spawner = await started(kube)
    stopping = asyncio.create_task(spawner.stop())
    await kube.until(lambda: kube.kubernetes.ended)
    assert kube.kubernetes.ended[0][1]["gracePeriodSeconds"] == 10
    kube.happens({"running": {}}, "Running", podIP="10.1.2.3")
    await kube.until(lambda: kube.kubernetes.streams)
    assert not stopping.done()
    kube.kubernetes.remove(POD, NAMESPACE)
    await stopping
    assert kube.service.observations[-1]["state"] == "gone"


async def test_a_stop_ends_its_pod_though_somebody_changed_a_label(kube: Scene) -> None:
    spawner = await started(kube)
    assert kube.pod is not None
    metadata = {**kube.pod["metadata"], "labels": {**kube.pod["metadata"]["labels"], "moorage.dev/workload": "another"}}
    kube.kubernetes.put(POD, NAMESPACE, metadata=metadata)
    stopping = asyncio.create_task(spawner.stop())
    await kube.until(lambda: kube.kubernetes.ended)
    kube.kubernetes.remove(POD, NAMESPACE)
    await stopping


async def test_what_ended_by_itself_is_not_called_stopped(kube: Scene) -> None:
    spawner = await started(kube)
    kube.ends(1)
    await spawner.stop()
    assert kube.kubernetes.ended == []
    assert kube.service.observations[-1]["state"] == "ready"


async def test_a_hub_that_was_restarted_finds_a_running_server(kube: Scene) -> None:
    await started(kube)
    again = kube.spawner()
    again._check_pending = True
    assert await again.poll() is None
    assert await again.get_url() == "http://10.1.2.3:8888/user/ada/tide/"


async def test_and_one_that_is_still_starting(kube: Scene) -> None:
    starting = kube.start(kube.spawner())
    await kube.made()
    await kube.until(lambda: kube.service.observations)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    again = kube.spawner()
    again._check_pending = True
    looking = asyncio.create_task(again.poll())
    kube.happens({"waiting": {"reason": "ContainerCreating"}}, conditions={"PodScheduled": {"status": "True"}})
    await kube.until(lambda: kube.kubernetes.streams)
    assert not looking.done()  # the hub would end it for not answering
    kube.answers()
    assert await looking is None
    assert await again.get_url() == "http://10.1.2.3:8888/user/ada/tide/"
    assert kube.kubernetes.ended == []


async def test_a_start_that_was_cut_off_before_its_pod_is_said_to_have_failed(kube: Scene) -> None:
    spawner = await started(kube)
    state = {**spawner.get_state(), "pod_address": ""}
    kube.kubernetes.remove(POD, NAMESPACE)
    again = kube.spawner()
    again.load_state(state)
    again._check_pending = True
    assert await again.poll() == 0
    assert kube.service.observations[-1]["message"].startswith("The hub was restarted before")


async def test_a_lost_database_is_no_lost_notebook(kube: Scene) -> None:
    before = await started(kube, "127.0.0.1")
    kube.db.delete(before.orm_spawner)
    kube.db.commit()
    kube.service.requests.clear()
    kube.runs()
    again = kube.spawner()
    assert again is not before
    again.api_token = "another"
    again.port = kube.kubernetes.port  # something answers there
    assert await kube.start(again) == f"http://127.0.0.1:{kube.kubernetes.port}"
    assert again.api_token == token_of(kube)
    assert [request["fresh"] for request in kube.service.requests] == [False]
    assert kube.kubernetes.ended == []
    assert again.get_state()["pod_name"] == POD


def token_of(kube: Scene) -> str:
    assert kube.pod is not None
    (server,) = kube.pod["spec"]["containers"]
    return next(str(each["value"]) for each in server["env"] if each["name"] == "JUPYTERHUB_API_TOKEN")


async def test_what_no_longer_runs_is_not_taken_over_but_started_anew(kube: Scene) -> None:
    await started(kube)
    kube.ends(1)
    kube.service.requests.clear()
    kube.runs()
    starting = kube.start(kube.spawner())
    await kube.until(lambda: len(kube.service.requests) == 2 and len(kube.kubernetes.objects()) == 2)
    assert [request["fresh"] for request in kube.service.requests] == [False, True]
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_it_is_not_ended_because_nobody_could_say_whether_it_runs(kube: Scene) -> None:
    await started(kube)
    kube.service.requests.clear()
    kube.runs()
    kube.kubernetes.failing = 500
    with pytest.raises(Exception, match="500"):
        await kube.start(kube.spawner())
    assert [request["fresh"] for request in kube.service.requests] == [False]
    assert kube.kubernetes.ended == []
