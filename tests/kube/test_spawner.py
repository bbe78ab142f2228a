"""A notebook starts, answers and ends as a pod on a real node, by the rights that the hub has there and no others."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from jupyterhub.spawner import SpawnException

from moorage_spawners.kube import ProjectKubeSpawner
from tests.archives import tar_of
from tests.fakes.kubernetes import FakeKubernetes
from tests.kube.namespace import RESTRICTED, Namespace
from tests.kube.node import Node
from tests.kube.notebooks import admission, as_the_hub, elsewhere, environment_image
from tests.kube.place import ADDRESS
from tests.spawners.kube_scene import Scene, hub
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)  # the first run builds the images
HELLO = b"hello from the project"


@pytest.fixture(scope="module")
def image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    return environment_image(node, node.push_own_images()["notebook"], tmp_path_factory.mktemp("layer"))


@pytest.fixture
def restricted(node: Node) -> Iterator[Namespace]:
    own = Namespace(node, labels=RESTRICTED)
    try:
        yield own
    finally:
        own.close()


@asynccontextmanager
async def a_hub(folder: Path, namespace: Namespace, image: str, **settings: object) -> AsyncIterator[Scene]:
    async with await as_the_hub(namespace) as api, hub(folder, FakeKubernetes(), api, ADDRESS, **settings) as scene:
        scene.service.admission = admission(namespace, image)
        scene.service.files = tar_of({"hello.txt": HELLO})
        yield scene


async def test_a_notebook_starts_answers_is_found_again_and_ends(
    restricted: Namespace, image: str, tmp_path: Path
) -> None:
    async with a_hub(tmp_path, restricted, image, Spawner={"start_timeout": 180}) as scene:
        spawner = scene.spawner()
        url = await scene.start(spawner, cpu="0.5", memory="1GiB")
        print(scene.steps, restricted.logs("nb-1-1"))
        assert await status_of(f"{url}/user/ada/tide/api") == 200
        assert await status_of(f"{url}/user/ada/tide/api/kernels") == 403  # nobody comes in who did not sign in
        assert await spawner.poll() is None
        the_pod_is_as_it_should_be(restricted)
        # A hub that was restarted, and one that lost its database.
        again = scene.spawner()
        again._check_pending = True
        assert await again.poll() is None
        assert await again.get_url() == f"{url}/user/ada/tide/"
        scene.service.requests.clear()
        scene.db.delete(again.orm_spawner)
        scene.db.commit()
        scene.runs()
        anew = scene.spawner()
        anew.api_token = "another"
        assert await scene.start(anew) == url
        assert anew.api_token == spawner.api_token
        await the_stop(anew, restricted)


def the_pod_is_as_it_should_be(namespace: Namespace) -> None:
    assert namespace.execute("nb-1-1", "cat", "/home/jovyan/tide/hello.txt") == HELLO.decode()
    said = namespace.execute(
        "nb-1-1", "sh", "-c", "echo $MOORAGE_TOKEN $API_KEY $HOME; id -u; cat /proc/1/comm; ls /run/moorage/runtime"
    )
    assert said.startswith("workload-token of-the-user /home/jovyan\n1000\ntini\n")
    assert "jpserver-" in said
    assert "Read-only file system" not in namespace.logs("nb-1-1")
    kernel = (
        "import json, subprocess, sys; spec = json.load(open('/run/moorage/jupyter/share/kernels/python3/kernel.json'));"
        "print(subprocess.run([spec['argv'][0], '-c', 'import ipykernel, moorage; print(1 + 1)'], capture_output=True).stdout)"
    )
    assert "2" in namespace.execute("nb-1-1", "/opt/moorage/server/bin/python", "-c", kernel)


async def the_stop(spawner: ProjectKubeSpawner, namespace: Namespace) -> None:
    await spawner.stop()
    eventually(lambda: namespace.kubectl.get("pod", "nb-1-1", namespace.name) is None, what="no object of the pod")
    assert await spawner.poll() == 0


async def status_of(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).status_code


async def test_what_no_machine_has_room_for_is_told_in_words(restricted: Namespace, image: str, tmp_path: Path) -> None:
    async with a_hub(tmp_path, restricted, image, Spawner={"start_timeout": 8}) as scene:
        spawner = scene.spawner()
        with pytest.raises(SpawnException, match=r"did not start within 8 s\. No machine has enough free memory"):
            await scene.start(spawner, memory="4TiB")
        await the_stop(spawner, restricted)


async def test_an_image_that_is_not_there_is_told_in_words(restricted: Namespace, image: str, tmp_path: Path) -> None:
    async with a_hub(tmp_path, restricted, image, ProjectKubeSpawner={"hopeless_s": 3}) as scene:
        assert scene.service.admission is not None
        scene.service.admission = elsewhere(scene.service.admission, f"{image[:-8]}00000000")
        spawner = scene.spawner()
        with pytest.raises(SpawnException, match="Its image was not found in the registry"):
            await scene.start(spawner)
        await the_stop(spawner, restricted)
