"""Whatever happens, in whatever order: nothing is called gone that is there, and in the end the picture is the truth."""

import asyncio
import random
from collections.abc import Iterable

import pytest

from moorage_spawners.launch.types import Object
from moorage_spawners.launch.watch import Change, Watcher
from tests.fakes.kubernetes import FakeKubernetes
from tests.spawners.watching import watching

STEPS = 150
HAPPENINGS = [
    *["put"] * 8, *["remove"] * 4, *["made"] * 2, *["late"] * 6, "reset", "end", "expire", "fail", "ending", *["well"] * 4, "away",
]  # fmt: skip


def named(objects: Iterable[Object]) -> dict[str, str]:
    """Name -> uid."""
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in objects}


def there(kubernetes: FakeKubernetes) -> dict[str, str]:
    """What there is in truth."""
    return named(kubernetes.objects())


@pytest.mark.parametrize("seed", range(10))
async def test_a_cluster_in_trouble_is_seen_as_it_is(seed: int) -> None:
    chance = random.Random(seed)
    kubernetes = FakeKubernetes(pages=chance.choice([1, 2, 500]), piecewise=chance.choice([0, 7]))
    wrong: list[str] = []
    gone: set[str] = set()

    def check(change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        if uid in gone or (change.kind == "gone" and uid in there(kubernetes).values()):
            wrong.append(uid)
        if change.kind == "gone":
            gone.add(uid)  # for ever

    def prepare(watcher: Watcher) -> None:
        watcher.listen(check)

    async with watching(kubernetes, prepare=prepare) as scene:
        for _ in range(STEPS):
            await _happens(kubernetes, scene.watcher, chance)
            for _ in range(chance.randint(0, 4)):
                await asyncio.sleep(0.001)
        kubernetes.failing, kubernetes.ending = None, False
        await kubernetes.leave()
        await kubernetes.come_back()
        wanted = there(kubernetes)
        await scene.until(lambda: named(scene.watcher.objects()) == wanted)
        assert wrong == []


async def _happens(kubernetes: FakeKubernetes, watcher: Watcher, chance: random.Random) -> None:
    """One thing, of the cluster's life or of what befalls its API."""
    name = f"nb-{chance.randint(1, 4)}"
    match chance.choice(
        [
            "put",
            "put",
            "put",
            "remove",
            "remove",
            "made",
            "reset",
            "end",
            "expire",
            "fail",
            "ending",
            "well",
            "away",
            "late",
        ]
    ):
        case "put":
            kubernetes.put(name, status={"phase": chance.choice(["Pending", "Running"])})
        case "remove" if name in there(kubernetes):
            kubernetes.remove(name)
        case "made" if name not in there(kubernetes):
            watcher.note(kubernetes.put(name))
        case "reset":
            kubernetes.reset()
        case "end":
            kubernetes.end_streams()
        case "expire":
            kubernetes.expire()
        case "fail":
            kubernetes.failing = chance.choice([429, 500, 410])
        case "ending":
            kubernetes.ending = True
        case "well":
            kubernetes.failing, kubernetes.ending = None, False
        case "away":
            await kubernetes.leave()
            await kubernetes.come_back()
        case "late" if kubernetes.history():
            kubernetes.say(chance.choice(kubernetes.history()))  # once more, and out of order
