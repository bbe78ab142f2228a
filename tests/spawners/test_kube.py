"""A notebook starts as a pod: what is made, what is told on the way, and what becomes of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException
from kubespawner import KubeSpawner

from moorage_spawners.kube import ProjectKubeSpawner
from tests.spawners.kube_scene import ADMISSION, IMAGE, NAMESPACE, POD, Scene, scene

FULL = (403, "Forbidden", "pods is forbidden: exceeded quota: moorage")


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as made:
        yield made


def variables(pod: dict[str, Any]) -> dict[str, Any]:
    (server,) = pod["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in server["env"]}


async def test_a_notebook_is_a_pod_in_the_place_that_the_service_made(kube: Scene) -> None:
    spawner = kube.spawner()
    starting = kube.start(spawner, cpu="2", memory="4GiB")
    pod = await kube.made()
    assert (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (NAMESPACE, POD)
    assert spawner.orm_spawner.state["pod_name"] == POD  # known to a hub that is killed now
    labels = pod["metadata"]["labels"]
    assert (labels["moorage.dev/kind"], labels["moorage.dev/owner"], labels["moorage.dev/project"]) == (
        "notebook",
        "us-1",
        "tide",
    )
    (server,) = pod["spec"]["containers"]
    assert server["image"] == IMAGE
    assert server["command"][:6] == ["tini", "--", "/opt/moorage/server/bin/python", "-I", "-m", "moorage.notebook"]
    assert server["resources"]["limits"]["memory"] == str(4 << 30)
    assert server["resources"]["requests"]["cpu"] == "2000m"
    assert server["readinessProbe"]["httpGet"] == {"port": 8888, "path": "/user/ada/tide/api"}
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "home"}
    assert (pod["spec"]["securityContext"]["runAsUser"], pod["spec"]["securityContext"]["fsGroup"]) == (1000, 100)
    kube.answers()
    assert await starting == "http://10.1.2.3:8888"
    assert spawner.get_state()["pod_address"] == "10.1.2.3"
    assert await spawner.poll() is None


async def test_its_environment_is_ours_and_its_secrets_come_by_reference(kube: Scene) -> None:
    starting = kube.start(kube.spawner())
    found = variables(await kube.made())
    assert found["MOORAGE_TOKEN"] == {"secretKeyRef": {"name": "nb-1-token", "key": "token"}}
    assert found["API_KEY"] == {"secretKeyRef": {"name": "nb-1-token", "key": "user-api-key"}}
    assert found["HOME"] == "/home/jovyan"  # no secret takes the place of what is ours
    assert found["JUPYTERHUB_API_TOKEN"].isalnum()
    assert found["VIRTUAL_ENV"] == "/opt/moorage/environments/0123abcd"
    assert found["JUPYTERHUB_ROOT_DIR"] == "/home/jovyan/tide"
    assert found["JUPYTERHUB_SERVICE_URL"] == "http://0.0.0.0:8888/user/ada/tide/"
    assert found["NVIDIA_VISIBLE_DEVICES"] == "void"
    kube.answers()
    await starting


async def test_a_gpu_is_shown_to_who_asked_for_one(kube: Scene) -> None:
    starting = kube.start(kube.spawner(), gpu=1)
    pod = await kube.made()
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert not {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"} & set(variables(pod))
    kube.answers()
    await starting


async def test_ready_is_told_when_the_hub_leads_there(kube: Scene) -> None:
    spawner = kube.spawner()
    starting = kube.start(spawner)
    await kube.made()
    kube.answers()
    await starting
    await kube.until(lambda: kube.service.observations[-1]["state"] == "ready")
    assert kube.service.observations[-1]["url"] == "/user/ada/tide/"


async def test_what_it_waits_for_is_told_in_words_and_once(kube: Scene) -> None:
    starting = kube.start(kube.spawner())
    await kube.made()
    short = {"status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient memory."}
    kube.happens(conditions={"PodScheduled": short})
    await kube.told("starting", "No machine has enough free memory.")
    kube.happens(conditions={"PodScheduled": short}, message="again")
    scheduled = {"PodScheduled": {"status": "True"}}
    kube.happens({"waiting": {"reason": "ContainerCreating"}}, conditions=scheduled)
    await kube.told("starting", "A machine was found")
    kube.event("Pulling", f'Pulling image "{IMAGE}"')
    await kube.told("starting", "Its image is being fetched")
    kube.event("Pulling", f'Pulling image "{IMAGE}"')
    kube.happens({"running": {}}, "Running", conditions=scheduled, podIP="10.1.2.3")
    await kube.told("starting", "Waiting for the notebook server to answer.")
    kube.answers()
    await starting
    await kube.until(lambda: "Ready" in kube.steps)
    for words in ("No machine has enough free memory.", "Its image is being fetched", "A machine was found"):
        assert len([step for step in kube.steps if step.startswith(words)]) == 1, kube.steps


async def test_a_start_that_takes_too_long_says_what_was_in_the_way(tmp_path: Path) -> None:
    async with scene(tmp_path, Spawner={"start_timeout": 3}) as kube:
        starting = kube.start(kube.spawner())
        await kube.made()
        said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        kube.happens(conditions={"PodScheduled": {"status": "False", "reason": "Unschedulable", "message": said}})
        with pytest.raises(
            SpawnException, match=r"did not start within 3 s\. No machine has a free GPU\."
        ):
            await starting
        await kube.told("failed", "No machine has a free GPU.")


async def test_a_server_that_crashes_is_told_with_its_last_words(kube: Scene) -> None:
    spawner = kube.spawner()
    starting = kube.start(spawner)
    await kube.made()
    kube.ends(1, "Traceback\nThe project's files could not be fetched. Try again in a moment.\n")
    with pytest.raises(SpawnException, match=r"It says: The project's files could not be fetched\."):
        await starting
    assert kube.service.observations[-1]["state"] == "failed"
    assert await spawner.poll() == 1


async def test_an_image_that_is_not_there_is_not_waited_for(kube: Scene) -> None:
    starting = kube.start(kube.spawner())
    await kube.made()
    for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull"):
        kube.happens({"waiting": {"reason": reason, "message": f"failed to resolve {IMAGE}: not found"}})
    with pytest.raises(SpawnException, match=r"can't start\. Its image was not found in the registry\."):
        await starting


async def test_an_image_that_comes_after_all_is_taken(kube: Scene) -> None:
    starting = kube.start(kube.spawner())
    await kube.made()
    kube.happens({"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    await kube.told("starting", "Its image was not found")
    kube.happens({"waiting": {"reason": "ContainerCreating"}}, conditions={"PodScheduled": {"status": "True"}})
    await kube.told("starting", "A machine was found")
    _, waiting = await asyncio.wait({starting}, timeout=0.4)  # longer than the patience for one that is missing
    assert waiting
    kube.answers()
    await starting


async def test_an_answer_that_never_came_makes_no_second_pod(kube: Scene) -> None:
    kube.kubernetes.lost_answers = 1
    kube.kubernetes.refusals = [(503, "ServiceUnavailable", "etcdserver: leader changed")]
    starting = kube.start(kube.spawner())
    await kube.made()
    kube.answers()
    await starting
    assert len(kube.kubernetes.objects()) == 1
    assert any("does not answer just now" in step for step in kube.steps)


async def test_a_cluster_in_trouble_is_asked_for_a_pod_less_and_less_often(kube: Scene) -> None:
    kube.kubernetes.refusals = [(429, "TooManyRequests", "too many requests")] * 4
    begun = time.monotonic()
    starting = kube.start(kube.spawner())
    await kube.made()
    # Each pause is at least half of 0.05, 0.1, 0.2, 0.4 s.
    assert time.monotonic() - begun > (0.05 + 0.1 + 0.2 + 0.4) / 2
    kube.answers()
    await starting


async def test_a_refusal_is_told_at_once(kube: Scene) -> None:
    kube.kubernetes.refusals = [(403, "Forbidden", 'pods "nb-1-1" is forbidden: violates PodSecurity "restricted"')]
    with pytest.raises(SpawnException, match="security rules refuse it"):
        await kube.start(kube.spawner())
    assert kube.pod is None


async def test_a_quota_that_still_counts_what_has_just_ended_is_asked_again(kube: Scene) -> None:
    kube.kubernetes.refusals = [FULL] * 3
    starting = kube.start(kube.spawner())
    await kube.made()
    kube.answers()
    await starting


async def test_a_quota_that_stays_full_is_told_long_before_the_start_is_given_up(tmp_path: Path) -> None:
    async with scene(tmp_path, ProjectKubeSpawner={"quota_s": 0.3}) as kube:
        kube.kubernetes.refusals = [FULL] * 1000
        with pytest.raises(SpawnException, match="Stop something of yours"):
            await asyncio.wait_for(kube.start(kube.spawner()), timeout=20)
        assert kube.pod is None


async def test_a_pod_that_somebody_removes_is_told(kube: Scene) -> None:
    starting = kube.start(kube.spawner())
    await kube.made()
    kube.happens()
    kube.kubernetes.remove(POD, NAMESPACE)
    with pytest.raises(SpawnException, match="Its pod was removed from the cluster"):
        await starting


async def test_an_existing_hubs_settings_of_placement_still_count(tmp_path: Path) -> None:
    settings = {
        "node_selector": {"disk": "fast"}, "tolerations": [{"key": "users", "operator": "Exists"}], "uid": 1234, "fs_gid": 567,
        "image_pull_secrets": [{"name": "own"}], "priority_class_name": "users", "start_timeout": 77,
    }  # fmt: skip
    async with scene(tmp_path, KubeSpawner=settings) as kube:
        starting = kube.start(kube.spawner())
        body = (await kube.made())["spec"]
        assert body["nodeSelector"] == {"disk": "fast"}
        assert body["tolerations"] == [{"key": "users", "operator": "Exists"}]
        assert body["imagePullSecrets"] == [{"name": "own"}]
        assert body["priorityClassName"] == "users"
        assert (body["securityContext"]["runAsUser"], body["securityContext"]["fsGroup"]) == (1234, 567)
        assert body["containers"][0]["startupProbe"]["failureThreshold"] == 77
        kube.answers()
        await starting


async def test_nothing_of_kubespawners_is_watched_and_nothing_beyond_the_namespace_asked(kube: Scene) -> None:
    spawner = kube.spawner()
    starting = kube.start(spawner)
    await kube.made()
    kube.answers()
    await starting
    assert await spawner.poll() is None
    assert KubeSpawner.reflectors == {}
    for begins in (spawner._start_watching_pods, spawner._start_watching_events):
        with pytest.raises(AssertionError, match="nothing of KubeSpawner's is watched"):
            await begins()
    assert kube.kubernetes.paths
    assert all(path.startswith(f"/api/v1/namespaces/{NAMESPACE}/pods") for path in kube.kubernetes.paths)


async def test_a_service_that_knows_no_pods_is_said(kube: Scene) -> None:
    kube.service.admission = replace(ADMISSION, pod=None)
    with pytest.raises(SpawnException, match="set up for different platforms"):
        await kube.start(kube.spawner())


def test_it_is_a_kubespawner() -> None:
    assert issubclass(ProjectKubeSpawner, KubeSpawner)
