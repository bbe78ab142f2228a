"""A cluster that is watched, for the tests of the watcher and of what stands on it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from moorage_spawners.launch.api_objects import Resource
from moorage_spawners.launch.labels import OURS
from moorage_spawners.launch.timing import Timing
from moorage_spawners.launch.watch import Change, Watcher
from tests.fakes.kubernetes import FakeKubernetes, serving

QUICK = Timing(
    resync_s=600, silence_s=600, page_within_s=30, first_pause_s=0.005, longest_pause_s=0.02, steady_s=0.5
)  # what a test does not shorten further never comes
WITHIN = 20.0


@dataclass
class Scene:
    """A cluster and who watches it. `heard`: what was told, as ("seen", name) and ("gone", name)."""

    kubernetes: FakeKubernetes
    watcher: Watcher
    heard: list[tuple[str, str]] = field(default_factory=list)

    def names(self) -> set[str]:
        return {each["metadata"]["name"] for each in self.watcher.objects()}

    async def until(self, condition: Callable[[], Any]) -> None:
        """For what the watcher tells nobody, too: asked again and again."""
        async with asyncio.timeout(WITHIN):
            while not condition():  # noqa: ASYNC110 - it is the server's side, or the clock's
                await asyncio.sleep(0.005)

    async def shows(self, *names: str) -> None:
        async with asyncio.timeout(WITHIN):
            await self.watcher.until(lambda: True if self.names() == set(names) else None)


@asynccontextmanager
async def watching(
    kubernetes: FakeKubernetes | None = None,
    timing: Timing = QUICK,
    namespaces: tuple[str | None, ...] = (None,),
    following: bool = True,
    prepare: Callable[[Watcher], object] = lambda _watcher: None,
) -> AsyncIterator[Scene]:
    """`following`: it begins when the watcher has listed all and hears of every change from now on. `prepare`: before it starts."""
    kubernetes = kubernetes or FakeKubernetes()
    heard: list[tuple[str, str]] = []

    def hear(change: Change) -> None:
        heard.append((change.kind, change.object["metadata"]["name"]))

    async with serving(kubernetes) as api:
        resources = [Resource(api, "pods", namespace=each, labels=OURS) for each in namespaces]
        watcher = Watcher(resources, timing=timing)
        watcher.listen(hear)
        prepare(watcher)
        async with watcher:
            scene = Scene(kubernetes, watcher, heard)
            if following:
                await scene.until(lambda: kubernetes.streams == len(resources))
            yield scene
