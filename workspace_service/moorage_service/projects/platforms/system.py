"""Notebook images with Debian packages: made once for the same packages on the same image, and environments are laid on them."""

import threading
from dataclasses import dataclass

from moorage_images.errors import BuildError
from moorage_images.network import network_environment
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_images.plan import SystemPackages
from moorage_images.sandbox import Log
from moorage_images.system_build import SystemTask
from moorage_service.projects.platforms import registry
from moorage_service.projects.platforms.pod_cluster import PodCluster
from moorage_service.projects.platforms.pod_manifests import BuildPod
from moorage_service.projects.platforms.pod_run import NotMadeError, message_of
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings


@dataclass(frozen=True, kw_only=True)
class SystemImages:
    cluster: PodCluster
    known: Registry
    settings: KubernetesSettings
    time_s: float

    def image(
        self, packages: SystemPackages, notebook: Reference, build: tuple[str, str], log: Log, cancel: threading.Event
    ) -> Reference:
        """`notebook` with these packages, by digest. `build`: its id, and the project's. Raises ImagesError in words."""
        target = registry.system_target(self.settings, packages)
        there = self.known.digest(target)
        if there is not None:
            log(f"The notebook image with {' '.join(packages.names)} is there already.")
            return target.at(there)
        system = self.settings.builds.system
        pod = BuildPod(
            build_id=build[0], project=build[1], image=notebook, settings=self.settings, time_s=self.time_s,
            variables=network_environment(self.settings.builds.env),
        )  # fmt: skip
        wanted = pod.installing(packages.names, target, plain_http=registry.plain_http(self.settings))
        task = SystemTask(packages=packages.names, sources=system.sources, settings=system.apt)
        try:
            said = message_of(self.cluster.run(pod, wanted, task.encoded(), log, cancel), "push").get("image")
        except NotMadeError as error:
            raise BuildError(
                f"{error.message} It installs the packages of `system:` as root, in the namespace {system.namespace} "
                "(`builds.system.namespace`), which has to be there and to let in what passes Pod Security `baseline`."
            ) from error
        if not isinstance(said, str):
            raise BuildError(
                "The step that pushes did not say which image it made. Ask an admin to look at `builds.image`."
            )
        return parse(said)
