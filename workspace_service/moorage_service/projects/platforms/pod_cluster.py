"""The cluster in which builds' pods run: one connection, for whichever thread builds."""

import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kubernetes_asyncio.client import ApiClient

from moorage_images.errors import BuildError
from moorage_images.pod_build import Found
from moorage_images.sandbox import Log
from moorage_service.projects.platforms import namespace, registry
from moorage_service.projects.platforms.pod_manifests import SELECTOR, BuildPod
from moorage_service.projects.platforms.pod_run import PodRun
from moorage_spawners.launch.api_objects import Expired, Unanswered
from moorage_spawners.launch.api_thread import ApiThread
from moorage_spawners.launch.errors import LaunchError
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.object_calls import list_of, remove
from moorage_spawners.launch.types import Object

T = TypeVar("T")
log = logging.getLogger(__name__)

WAIT_S = 3600.0  # for room, and for images to be pulled, beside what a step may take
SLACK_S = 120.0  # for what is asked of the API server at the end
LONGEST_LINE = 2000  # characters


class PodCluster:
    """`guard` raises when this process may start and end nothing any more. `step_s`: how long one pod may take."""

    def __init__(
        self, settings: KubernetesSettings, step_s: float, guard: Callable[[], None], connect: Callable[[], Awaitable[ApiClient]]
    ) -> None:  # fmt: skip
        self._settings = settings
        self._step_s = step_s
        self._guard = guard
        self._connect = connect
        self._lock = threading.Lock()
        self._thread: ApiThread | None = None
        self._api: ApiClient | None = None

    def find(self, pod: BuildPod, wanted: Object, task: bytes, log: Log, cancel: threading.Event) -> Found:
        """What a pod that looks found, by its log; all other lines go to `log`. Raises as `run` does."""
        found: list[Found] = []

        def hear(line: str) -> None:
            one = Found.of(line)
            if one is None:
                log(line[:LONGEST_LINE])
            else:
                found.append(one)

        self._run(pod, wanted, task, hear, log, cancel)
        if not found:
            raise BuildError("The build's pod told nothing of what it found. Build again, or tell an admin.")
        return found[0]

    def run(self, pod: BuildPod, wanted: Object, task: bytes, log: Log, cancel: threading.Event) -> Object:
        """The pod as it ended, well; its log goes to `log`. Raises BuildCancelledError, NoWheelError and BuildError."""
        return self._run(pod, wanted, task, lambda line: log(line[:LONGEST_LINE]), log, cancel)

    def _run(self, pod: BuildPod, wanted: Object, task: bytes, hear: Log, log: Log, cancel: threading.Event) -> Object:
        within_s = self._step_s + WAIT_S
        objects = self._objects(pod, wanted["metadata"]["namespace"])

        async def carried_out() -> Object:
            run = PodRun(
                api=await self._client(), objects=objects, guard=self._guard, hear=hear, log=log, cancel=cancel, within_s=within_s,
            )  # fmt: skip
            return await run.run(wanted, pod.inputs(wanted, task))

        try:
            return self._wait(carried_out(), within_s + SLACK_S)
        except (LaunchError, Unanswered) as error:
            raise BuildError(f"The cluster can't be asked for a pod. {error}") from error

    def _objects(self, pod: BuildPod, place: str) -> list[Object]:
        told = self._settings.registry
        objects: list[Object] = [
            *namespace.objects(self._settings, place, (registry.repository(self._settings), pod.image))
        ]
        for name, file in ((namespace.PULL, told.pull_secret), (namespace.PUSH, told.push_secret)):
            if file:
                objects.append(namespace.credentials(name, place, Path(file).read_bytes()))
        return objects

    def sweep(self, running: Collection[str]) -> None:
        """Ends the pods of all builds but those `running`."""
        try:
            places = [namespace.name(self._settings)]
        except BuildError:  # an admin has named none
            places = []
        for place in [*places, *filter(None, [self._settings.builds.system.namespace])]:
            try:
                self._wait(self._sweep(place, running), WAIT_S)
            except (BuildError, LaunchError, Unanswered, Expired) as error:  # there may be no such place yet
                log.info("what builds left in the namespace %s is not removed now: %s", place, error)

    async def _sweep(self, place: str, running: Collection[str]) -> None:
        api = await self._client()
        for kind in ("Pod", "Secret"):
            for each in await list_of(api, kind, place, SELECTOR):
                if not any(each["metadata"]["name"].startswith(f"{build_id}-") for build_id in running):
                    self._guard()
                    await remove(api, each, grace_s=1 if kind == "Pod" else None)

    def close(self) -> None:
        """Once no build runs; closed already is no error."""
        thread, self._thread, api, self._api = self._thread, None, self._api, None
        if thread is not None:
            if api is not None:
                thread.wait(api.close())
            thread.close()

    def _wait(self, asked: Coroutine[Any, Any, T], within_s: float) -> T:
        with self._lock:
            if self._thread is None:
                self._thread = ApiThread()
        return self._thread.wait(asked, within_s)

    async def _client(self) -> ApiClient:
        if self._api is None:
            self._api = await self._connect()
        return self._api
