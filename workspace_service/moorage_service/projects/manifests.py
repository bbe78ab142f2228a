"""moorage.yaml at the service's door: which Pythons there are, who installs Debian packages, and what a project's clusters start with."""

import sys
from pathlib import Path

from moorage.wire import ClusterSpec
from moorage_images import manifest
from moorage_images.errors import ManifestError
from moorage_images.manifest import Manifest
from moorage_service.errors import BadRequest, Conflict
from moorage_service.settings import Settings
from moorage_service.store.tables import ProjectRow

_MOST_NAMED = 5  # packages in one sentence


def pythons(settings: Settings) -> dict[str, Path]:
    """The versions that projects may name -> interpreter; the first is the default. The service's own if none is listed."""
    if settings.python_versions:
        return {version: Path(path) for version, path in settings.python_versions.items()}
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {own: Path(sys.base_exec_prefix) / "bin" / f"python{own}"}


def check(settings: Settings, text: str) -> Manifest:
    """Reads moorage.yaml. Raises BadRequest with the sentence that names field, value and remedy."""
    try:
        return manifest.parse(text, list(pythons(settings)))
    except ManifestError as error:
        raise BadRequest(error.message, code=error.code, field=error.field or "manifest") from error


def accept(settings: Settings, text: str) -> Manifest:
    """Reads a moorage.yaml that somebody wants to have built. Raises BadRequest as `check` does, and Conflict when it lists Debian
    packages that nothing here can install.
    """
    found = check(settings, text)
    told = settings.kubernetes
    if not found.system or told is None or told.builds.system.namespace:
        return found
    more = len(found.system) - _MOST_NAMED
    names = ", ".join(found.system[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    raise Conflict(
        f"system: nothing here can install Debian packages ({names}). Leave them out of moorage.yaml, or ask an admin to enable it by "
        "naming a namespace for such builds in the chart's value `builds.system.namespace`.",
        code="no_system_builder",
        field="system",
    )


def cluster_defaults(settings: Settings, project: ProjectRow) -> dict[str, ClusterSpec]:
    """Engine -> what a new cluster of this project starts with, where its moorage.yaml says so."""
    try:
        return dict(check(settings, project.manifest).clusters)
    except BadRequest:  # an admin has taken its Python version away: its present environment goes on
        return {}
