"""Builds by pods, into images of a registry: no root, no daemon, no Dockerfile.

What a lock is worth: wheels alone are resolved without running any package's code, so that such a lock, and what is built by it, is
shared by all projects. Where code has run, lock and image are one project's: their name holds its id. The name is always made here.
"""

import json
import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from kubernetes_asyncio.client import ApiClient

from moorage_images import plan as plans
from moorage_images.environments import EnvironmentRecord
from moorage_images.errors import BuildError, ImagesError
from moorage_images.manifest import Manifest
from moorage_images.network import has_credentials, network_environment, without_credentials
from moorage_images.oci.append import reappend
from moorage_images.oci.image import own_architecture
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_images.plan import EnvironmentPlan, Lock
from moorage_images.pod_build import Found, Task
from moorage_images.resolve import NoWheelError
from moorage_images.sandbox import Log
from moorage_service.context import Context
from moorage_service.projects import manifests
from moorage_service.projects.platforms import images, namespace, registry
from moorage_service.projects.platforms.base import Built
from moorage_service.projects.platforms.pod_manifests import SELECTOR, BuildPod
from moorage_service.projects.platforms.pod_run import PodRun, message_of
from moorage_service.store.tables import EnvironmentRow
from moorage_spawners.launch.api_client import connect
from moorage_spawners.launch.api_objects import Expired, Unanswered
from moorage_spawners.launch.api_thread import ApiThread
from moorage_spawners.launch.errors import LaunchError
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.object_calls import list_of, remove

T = TypeVar("T")
log = logging.getLogger(__name__)

WAIT_S = 3600.0  # for room, and for images to be pulled, beside what a step may take


class PodBuilds:
    def __init__(self, context: Context, connect: Callable[[], Awaitable[ApiClient]] = connect) -> None:
        assert context.settings.kubernetes is not None
        self._context = context
        self._settings: KubernetesSettings = context.settings.kubernetes
        self._connect = connect
        self._lock = threading.Lock()
        self._thread: ApiThread | None = None
        self._api: ApiClient | None = None

    @property
    def at_once(self) -> int:
        return self._settings.builds.concurrent

    def build(self, build_id: str, project: str, manifest: Manifest, log: Log, cancel: threading.Event) -> Built:
        if manifest.system:
            raise BuildError(
                "moorage.yaml lists `system:` packages, and there is no builder for them here. Leave them out, or ask an admin for a "
                "notebook image that has them."
            )
        registry.repository(self._settings)
        with registry.opened(self._settings) as known:
            base = registry.base_of(known, self._settings)
            order = _Order(self, known, base, build_id, project, manifest, log, cancel)
            variables = network_environment(self._settings.builds.env)
            try:
                return order.carry_out(variables, from_source=False)
            except NoWheelError:
                log("Some package has no wheel for this Python: building from source, for this project alone.")
            if has_credentials(variables):
                log("The package index is asked without its name and password: the code of packages could read them.")
            return order.carry_out(without_credentials(variables), from_source=True)

    def sweep(self, running: Collection[str], cancel: threading.Event) -> None:  # noqa: ARG002
        try:
            place = namespace.name(self._settings)
            self.call(self._sweep(place, running), WAIT_S)
        except (BuildError, LaunchError, Unanswered, Expired) as error:
            log.info("what builds left in the cluster is not removed now: %s", error)  # there may be no such place yet

    async def _sweep(self, place: str, running: Collection[str]) -> None:
        api = await self._client()
        for kind in ("Pod", "Secret"):
            for each in await list_of(api, kind, place, SELECTOR):
                if not any(each["metadata"]["name"].startswith(f"{build_id}-") for build_id in running):
                    self._context.leadership.require()
                    await remove(api, each, grace_s=1 if kind == "Pod" else None)

    def upkeep(self, cancel: threading.Event) -> None:
        if not self._settings.registry.url:
            return
        try:
            with registry.opened(self._settings) as known:
                base = registry.base_of(known, self._settings)
                outdated = images.on_other_bases(self._context, base)
                if outdated:
                    images.move(self._context, known, outdated, base, self._python_of(base, cancel))
                images.collect(self._context, known, registry.repository(self._settings))
        except ImagesError as error:
            log.warning("environments' images are looked after another time: %s", error.message)

    def _python_of(self, base: Reference, cancel: threading.Event) -> Found:
        """What Python a notebook image has, by a pod that asks it."""
        python = next(iter(manifests.pythons(self._context.settings).values()))
        pod = self.pod_of("upkeep", "moorage", base, {})
        wanted = pod.pod("describe")
        return self.told(pod, wanted, Task(python=str(python)), base, lambda _line: None, cancel)

    def pod_of(self, build_id: str, project: str, base: Reference, variables: dict[str, str]) -> BuildPod:
        return BuildPod(
            build_id=build_id, project=project, image=base, settings=self._settings,
            time_s=self._context.settings.build_timeout_s, variables=variables,
        )  # fmt: skip

    def told(
        self, pod: BuildPod, wanted: dict[str, Any], task: Task, base: Reference, log: Log, cancel: threading.Event
    ) -> Found:
        """What the pod found, by its log; all other lines go to `log`."""
        found: list[Found] = []

        def hear(line: str) -> None:
            one = Found.of(line)
            if one is None:
                log(line[:2000])
            else:
                found.append(one)

        self.run(pod, wanted, task, base, hear, log, cancel)
        if not found:
            raise BuildError("The build's pod told nothing of what it found. Build again, or tell an admin.")
        return found[0]

    def run(
        self, pod: BuildPod, wanted: dict[str, Any], task: Task, base: Reference, hear: Log, log: Log, cancel: threading.Event
    ) -> Any:  # fmt: skip
        """The pod as it ended, well."""
        settings = self._settings
        where = registry.repository(settings)
        objects: list[dict[str, Any]] = namespace.objects(settings, (where, base))
        place = wanted["metadata"]["namespace"]
        for kind, file in (
            (namespace.PULL, settings.registry.pull_secret),
            (namespace.PUSH, settings.registry.push_secret),
        ):
            if file:
                objects.append(namespace.credentials(kind, place, Path(file).read_bytes()))
        within_s = self._context.settings.build_timeout_s + WAIT_S

        async def carried_out() -> Any:
            run = PodRun(
                api=await self._client(), objects=objects, guard=self._context.leadership.require, hear=hear, log=log, cancel=cancel,
                within_s=within_s,
            )  # fmt: skip
            return await run.run(wanted, pod.inputs(wanted, task.encoded()))

        try:
            return self.call(carried_out(), within_s + 120)
        except (LaunchError, Unanswered) as error:
            raise BuildError(f"The cluster can't be asked for a pod. {error}") from error

    def call(self, asked: Coroutine[Any, Any, T], within_s: float) -> T:
        with self._lock:
            if self._thread is None:
                self._thread = ApiThread()
        return self._thread.wait(asked, within_s)

    async def _client(self) -> ApiClient:
        if self._api is None:
            self._api = await self._connect()
        return self._api

    def close(self) -> None:
        """Once no build runs; closed already is no error."""
        thread, self._thread, api, self._api = self._thread, None, self._api, None
        if thread is not None:
            if api is not None:
                thread.wait(api.close())
            thread.close()


@dataclass(frozen=True)
class _Order:
    """One build, on one base."""

    pods: PodBuilds
    known: Registry
    base: Reference
    build_id: str
    project: str
    manifest: Manifest
    log: Log
    cancel: threading.Event

    def carry_out(self, variables: dict[str, str], *, from_source: bool) -> Built:
        pods = self.pods
        python = str(manifests.pythons(pods._context.settings)[self.manifest.python])
        task = Task(python=python, packages=self.manifest.packages, from_source=from_source)
        pod = pods.pod_of(self.build_id, self.project, self.base, variables)
        found = pods.told(pod, pod.pod("resolve"), task, self.base, self.log, self.cancel)
        plan, lock = found.plan(python, self.manifest), Lock(text=found.lock, from_source=from_source)
        name = plans.digest(plan, lock, self.project)
        there = self._there(name, plan, lock)
        if there is not None:
            self.log(f"Environment {name} is there already, with exactly these versions.")
            return there
        return self._built(pod, replace(task, lock=lock.text), name, plan, lock)

    def _there(self, name: str, plan: EnvironmentPlan, lock: Lock) -> Built | None:
        with self.pods._context.database.read() as session:
            row = session.get(EnvironmentRow, name)
            if row is None or row.image is None:
                return None
            image, base = row.image, row.base
        if self.known.digest(parse(image)) is None:
            self.log("Its image is not in the registry any more.")
            return None
        if base != str(self.base):
            self.log("Putting it onto the present notebook image.")
            target = registry.target(self.pods._settings, name, self.base)
            image = str(
                reappend(self.known, parse(image), self.base, target, architecture=own_architecture()).reference
            )
        return Built(record=_record(name, plan, lock), image=image, base=str(self.base))

    def _built(self, pod: BuildPod, task: Task, name: str, plan: EnvironmentPlan, lock: Lock) -> Built:
        settings = self.pods._settings
        target = registry.target(settings, name, self.base)
        wanted = pod.building(name, task.python, target, plain_http=registry.plain_http(settings))
        ended = self.pods.run(pod, wanted, task, self.base, lambda line: self.log(line[:2000]), self.log, self.cancel)
        said = message_of(ended, "push")
        image, base = said.get("image"), said.get("base")
        if not isinstance(image, str) or not isinstance(base, str):
            raise BuildError(
                f"The step that pushes said {json.dumps(said)[:300]}. Ask an admin to look at `builds.image`."
            )
        record = _record(name, plan, lock)
        self.log(f"Environment {name} is ready: Python {record.python}, {len(record.packages)} packages.")
        self.log(
            f"Its image has {_in_mib(said.get('size'))}, {_in_mib(said.get('sent'))} of them were not in the registry yet."
        )
        return Built(record=record, image=image, base=base)


def _record(name: str, plan: EnvironmentPlan, lock: Lock) -> EnvironmentRecord:
    return EnvironmentRecord(
        digest=name, python=plan.interpreter.version, architecture=plan.interpreter.architecture,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), from_source=lock.from_source,
        packages=plans.locked(plan, lock), lock=lock.text,
    )  # fmt: skip


def _in_mib(size: object) -> str:
    return f"{size / (1 << 20):.0f} MiB" if isinstance(size, int) else "unknown MiB"
