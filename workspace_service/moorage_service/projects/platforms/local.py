"""Builds by processes of this machine, under throwaway identities where we are root."""

import logging
import os
import shutil
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from moorage import folders
from moorage_images import build as images
from moorage_images import environments, interpreters, wheel
from moorage_images import plan as plans
from moorage_images.bounds import Bounds
from moorage_images.errors import BuildCancelledError, BuildError
from moorage_images.manifest import Manifest
from moorage_images.network import network_environment
from moorage_images.sandbox import Log
from moorage_service.projects import manifests
from moorage_service.projects.platforms.base import Built
from moorage_service.settings import Settings

log = logging.getLogger(__name__)

IDENTITIES = 100  # throwaway uids, from `builder_uid_first` on


class LocalBuilds:
    at_once = 1  # on the machine, whichever installation it belongs to

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def build(self, build_id: str, project: str, manifest: Manifest, log: Log, cancel: threading.Event) -> Built:  # noqa: ARG002
        interpreter = interpreters.inspect(manifests.pythons(self._settings)[manifest.python])
        plan = plans.plan(manifest, {manifest.python: interpreter}, wheel.read(_client_wheel(self._settings)))
        return Built(record=images.build(plan, project, places(self._settings), log=log, cancel=cancel))

    def sweep(self, running: Collection[str], cancel: threading.Event) -> None:  # noqa: ARG002
        """Once no build runs, another term's included: it may have been paused and go on, and must not lose its tree."""
        with suppress(BuildCancelledError), images.no_build(self._settings.environments, cancel=cancel):
            environments.sweep(self._settings.environments)
            for folder in (self._settings.state / "scratch").glob("build-*"):
                if not folders.remove(folder, ignore_errors=True):
                    log.warning("what a build left can't be removed: %s", folder)

    def upkeep(self, cancel: threading.Event) -> None:
        """Environments stay: what runs may need any of them."""

    def close(self) -> None:
        """Nothing is held."""


def places(settings: Settings) -> images.BuildPlaces:
    """Raises BuildError when there is no uv."""
    uv = shutil.which(settings.uv)
    if uv is None:
        raise BuildError(
            f"The program {settings.uv!r} is not there. An admin sets `uv` in settings.yaml, or runs `make up`."
        )
    first = settings.builder_uid_first
    return images.BuildPlaces(
        environments=settings.environments,
        cache=settings.state / "build-cache",
        scratch=settings.state / "scratch",
        uv=Path(uv).resolve(),
        accounts=range(first, first + IDENTITIES) if os.geteuid() == 0 else None,
        network=network_environment(os.environ),
        bounds=Bounds(
            memory=settings.build_memory,
            processes=settings.build_processes,
            free_disk=settings.free_disk,
            time_s=settings.build_timeout_s,
        ),
    )


def _client_wheel(settings: Settings) -> Path:
    if settings.client_wheel is None:
        raise BuildError(
            "The client's wheel is not known. An admin sets `client_wheel` in settings.yaml, or runs `make up`."
        )
    return settings.client_wheel
