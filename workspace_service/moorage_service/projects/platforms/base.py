"""What the builder needs of a platform."""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from moorage_images.environments import EnvironmentRecord
from moorage_images.manifest import Manifest
from moorage_images.sandbox import Log


@dataclass(frozen=True, kw_only=True)
class Built:
    """`image` and `base`: where an environment is one, by digest."""

    record: EnvironmentRecord
    image: str | None = None
    base: str | None = None


class BuildPlatform(Protocol):
    @property
    def at_once(self) -> int:
        """How many builds may run at the same time."""

    def build(self, build_id: str, project: str, manifest: Manifest, log: Log, cancel: threading.Event) -> Built:
        """The environment of `project`, by its id; at once when it is there. Raises ImagesError; nothing half-made is left then."""

    def sweep(self, running: Collection[str], cancel: threading.Event) -> None:
        """Removes what builds left that nobody carries out any more: all but those `running`, by their ids."""

    def upkeep(self, cancel: threading.Event) -> None:
        """Now and then, while this service acts, and nothing waits to be built."""

    def close(self) -> None:
        """No build runs any more."""
