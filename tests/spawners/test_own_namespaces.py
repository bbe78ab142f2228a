"""An installation's namespaces: only one that is gone by its name is gone, whatever became of its label."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from moorage_spawners.launch.own_namespaces import OwnNamespaces
from tests.fakes.kubernetes import FakeKubernetes, serving

OURS = {"moorage.dev/managed-by": "moorage.tide"}
WITHIN = 20.0


@dataclass
class Scene:
    kubernetes: FakeKubernetes
    spaces: OwnNamespaces
    came: list[str]
    went: list[str]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN):
            while not condition():  # noqa: ASYNC110 - it is the other side
                await asyncio.sleep(0.01)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    kubernetes = FakeKubernetes()
    kubernetes.space("ada", OURS)
    async with serving(kubernetes) as api:
        came: list[str] = []
        went: list[str] = []
        async with OwnNamespaces(api, "moorage.tide", came=came.append, went=went.append, look_s=0.05) as spaces:
            made = Scene(kubernetes, spaces, came, went)
            await made.until(lambda: came == ["ada"] and kubernetes._space_streams)
            yield made


async def test_one_that_is_removed_is_gone_at_once(scene: Scene) -> None:
    scene.kubernetes.space("bob", OURS)
    await scene.until(lambda: scene.came == ["ada", "bob"])
    scene.kubernetes.remove_space("ada")
    await scene.until(lambda: scene.went == ["ada"])


async def test_one_that_loses_its_label_is_not_gone_until_it_is_and_is_told_of(scene: Scene) -> None:
    scene.kubernetes.space("ada", {})
    await scene.until(lambda: scene.spaces.trouble)
    assert "kubectl label namespace ada moorage.dev/managed-by=moorage.tide --overwrite" in str(scene.spaces.trouble)
    assert scene.went == []
    scene.kubernetes.remove_space("ada")
    await scene.until(lambda: scene.went == ["ada"])
    await scene.until(lambda: scene.spaces.trouble is None)


async def test_one_that_gets_its_label_back_is_as_it_was(scene: Scene) -> None:
    scene.kubernetes.space("ada", {"moorage.dev/managed-by": "another"})
    await scene.until(lambda: scene.spaces.trouble)
    scene.kubernetes.space("ada", OURS)
    await scene.until(lambda: scene.spaces.trouble is None)
    assert (scene.came, scene.went) == (["ada", "ada"], [])


async def test_another_of_its_name_that_is_not_ours_is_not_it(scene: Scene) -> None:
    scene.kubernetes.remove_space("ada")
    scene.kubernetes.space("ada", {})
    await scene.until(lambda: scene.went == ["ada"])


async def test_while_nobody_can_say_it_is_not_gone(scene: Scene) -> None:
    scene.kubernetes.failing = 503
    scene.kubernetes.remove_space("ada")
    await scene.until(lambda: scene.kubernetes.paths.count("/api/v1/namespaces/ada") > 2)
    assert scene.went == []
    scene.kubernetes.failing = None
    await scene.until(lambda: scene.went == ["ada"])
