"""Builds by pods, into images of a registry: no root, no daemon, no Dockerfile.

What a lock is worth: wheels alone are resolved without running any package's code, so that such a lock, and what is built by it, is
shared by all projects. Where code has run, lock and image are one project's: their name holds its id. The name is always made here.
"""

import json
import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

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
from moorage_images.plan import EnvironmentPlan, Lock, SystemPackages
from moorage_images.pod_build import Found, Task
from moorage_images.resolve import NoWheelError
from moorage_images.sandbox import Log
from moorage_service.context import Context
from moorage_service.projects import manifests
from moorage_service.projects.platforms import images, registry
from moorage_service.projects.platforms.base import Built
from moorage_service.projects.platforms.pod_cluster import PodCluster
from moorage_service.projects.platforms.pod_manifests import BuildPod
from moorage_service.projects.platforms.pod_run import message_of
from moorage_service.projects.platforms.system import SystemImages
from moorage_service.store.tables import EnvironmentRow
from moorage_spawners.launch.api_client import connect
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings

log = logging.getLogger(__name__)


class PodBuilds:
    def __init__(self, context: Context, connect: Callable[[], Awaitable[ApiClient]] = connect) -> None:
        assert context.settings.kubernetes is not None
        self._context = context
        self._settings: KubernetesSettings = context.settings.kubernetes
        self._cluster = PodCluster(
            self._settings, context.settings.build_timeout_s, context.leadership.require, connect
        )

    @property
    def at_once(self) -> int:
        return self._settings.builds.concurrent

    def build(self, build_id: str, project: str, manifest: Manifest, log: Log, cancel: threading.Event) -> Built:
        registry.repository(self._settings)  # there is one
        with registry.opened(self._settings) as known:
            base, system = registry.base_of(known, self._settings), None
            if manifest.system:
                system = SystemPackages(names=tuple(sorted(manifest.system)), base=base.digest)
                made = SystemImages(
                    cluster=self._cluster,
                    known=known,
                    settings=self._settings,
                    time_s=self._context.settings.build_timeout_s,
                )
                base = made.image(system, base, (build_id, project), log, cancel)
            order = _Order(
                self._context,
                self._cluster,
                known,
                self._settings,
                base,
                system,
                build_id,
                project,
                manifest,
                log,
                cancel,
            )
            variables = network_environment(self._settings.builds.env)
            try:
                return order.carry_out(variables, from_source=False)
            except NoWheelError:
                log("Some package has no wheel for this Python: building from source, for this project alone.")
            if has_credentials(variables):
                log("The package index is asked without its name and password: the code of packages could read them.")
            return order.carry_out(without_credentials(variables), from_source=True)

    def sweep(self, running: Collection[str], cancel: threading.Event) -> None:  # noqa: ARG002
        self._cluster.sweep(running)

    def upkeep(self, cancel: threading.Event) -> None:
        if not self._settings.registry.url:
            return
        try:
            with registry.opened(self._settings) as known:
                base = registry.base_of(known, self._settings)
                repository, system = registry.repository(self._settings), registry.system_repository(self._settings)
                outdated = images.on_other_bases(self._context, base, system)
                if outdated:
                    images.move(self._context, known, outdated, base, self._look_into(base, cancel))
                images.collect(self._context, known, repository, system)
        except ImagesError as error:
            log.warning("environments' images are looked after another time: %s", error.message)

    def _look_into(self, base: Reference, cancel: threading.Event) -> Found:
        """What Python a notebook image has, by a pod that asks it."""
        python = next(iter(manifests.pythons(self._context.settings).values()))
        pod = BuildPod(
            build_id="upkeep", project="", image=base, settings=self._settings, time_s=self._context.settings.build_timeout_s,
            variables={},
        )  # fmt: skip
        return self._cluster.find(
            pod, pod.pod("describe"), Task(python=str(python)).encoded(), lambda _line: None, cancel
        )

    def close(self) -> None:
        self._cluster.close()


@dataclass(frozen=True)
class _Order:
    """One build, on one base: the notebook image, or one with the Debian packages `system`."""

    context: Context
    cluster: PodCluster
    known: Registry
    settings: KubernetesSettings
    base: Reference
    system: SystemPackages | None
    build_id: str
    project: str
    manifest: Manifest
    log: Log
    cancel: threading.Event

    def carry_out(self, variables: Mapping[str, str], *, from_source: bool) -> Built:
        """Raises NoWheelError, only when not `from_source`."""
        python = str(manifests.pythons(self.context.settings)[self.manifest.python])
        task = Task(python=python, packages=self.manifest.packages, from_source=from_source)
        pod = BuildPod(
            build_id=self.build_id, project=self.project, image=self.base, settings=self.settings,
            time_s=self.context.settings.build_timeout_s, variables=variables,
        )  # fmt: skip
        found = self.cluster.find(pod, pod.pod("resolve"), task.encoded(), self.log, self.cancel)
        plan = replace(found.plan(python, self.manifest), system=self.system)
        lock = Lock(text=found.lock, from_source=from_source)
        record = _record(plan, lock, self.project)
        there = self._there(record)
        if there is not None:
            self.log(f"Environment {record.digest} is there already, with exactly these versions.")
            return there
        return self._built(pod, replace(task, lock=lock.text), record)

    def _there(self, record: EnvironmentRecord) -> Built | None:
        with self.context.database.read() as session:
            row = session.get(EnvironmentRow, record.digest)
            if row is None or row.image is None:
                return None
            image, base = row.image, row.base
        if self.known.digest(parse(image)) is None:
            self.log("Its image is not in the registry any more.")
            return None
        if base != str(self.base):
            self.log("Putting it onto the present notebook image.")
            target = registry.target(self.settings, record.digest, self.base)
            moved = reappend(self.known, parse(image), self.base, target, architecture=own_architecture())
            image = str(moved.reference)
        return Built(record=record, image=image, base=str(self.base))

    def _built(self, pod: BuildPod, task: Task, record: EnvironmentRecord) -> Built:
        target = registry.target(self.settings, record.digest, self.base)
        wanted = pod.building(record.digest, task.python, target, plain_http=registry.plain_http(self.settings))
        said = message_of(self.cluster.run(pod, wanted, task.encoded(), self.log, self.cancel), "push")
        image, base = said.get("image"), said.get("base")
        if not isinstance(image, str) or not isinstance(base, str):
            raise BuildError(
                f"The step that pushes said {json.dumps(said)[:300]}. Ask an admin to look at `builds.image`."
            )
        size, sent = _in_mib(said.get("size")), _in_mib(said.get("sent"))
        self.log(f"Environment {record.digest} is ready: Python {record.python}, {len(record.packages)} packages.")
        self.log(f"Its image has {size}, {sent} of them were not in the registry yet.")
        return Built(record=record, image=image, base=base)


def _record(plan: EnvironmentPlan, lock: Lock, project: str) -> EnvironmentRecord:
    return EnvironmentRecord(
        digest=plans.digest(plan, lock, project), python=plan.interpreter.version, architecture=plan.interpreter.architecture,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), from_source=lock.from_source,
        packages=plans.locked(plan, lock), lock=lock.text,
    )  # fmt: skip


def _in_mib(size: object) -> str:
    return f"{size / (1 << 20):.0f} MiB" if isinstance(size, int) else "unknown MiB"
