"""The registry of environments' images, as the service itself sees it: by the credentials that it was given, without a pod."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage_images.errors import BuildError
from moorage_images.oci import credentials
from moorage_images.oci.connection import Connection
from moorage_images.oci.image import own_architecture
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_images.plan import SystemPackages
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings

REPOSITORY, SYSTEM = "environments", "system"


@contextmanager
def opened(settings: KubernetesSettings) -> Iterator[Registry]:
    """Raises UnauthorizedError for credentials that can't be read."""
    files = (settings.registry.pull_secret, settings.registry.push_secret)  # who may push, may pull
    known = {host: each for file in files if file for host, each in credentials.read(Path(file)).items()}
    with Connection(known, plain_http=plain_http(settings), authorities=settings.builds.ca_certificates) as connection:
        yield Registry(connection)


def plain_http(settings: KubernetesSettings) -> tuple[str, ...]:
    """Hosts that are asked without TLS."""
    return (repository(settings).host,) if settings.registry.insecure else ()


def repository(settings: KubernetesSettings) -> Reference:
    """Where all environments' images are. Raises BuildError when no registry is named, RefusedError for what can't be one."""
    return _repository(settings, REPOSITORY)


def system_repository(settings: KubernetesSettings) -> Reference:
    """Where the notebook images with Debian packages are. Raises as `repository` does."""
    return _repository(settings, SYSTEM)


def _repository(settings: KubernetesSettings, name: str) -> Reference:
    if not settings.registry.url:
        raise BuildError(
            "There is no registry for environments' images here, so nothing can be built. An admin names one in `registry.url`."
        )
    return parse(f"{settings.registry.url.rstrip('/')}/{name}")


def target(settings: KubernetesSettings, environment: str, base: Reference) -> Reference:
    """An environment's image on one base, by a tag: what has none can't be listed."""
    where = repository(settings)
    return Reference(where.host, where.repository, f"{environment}-{base.digest.removeprefix('sha256:')[:12]}")


def system_target(settings: KubernetesSettings, packages: SystemPackages) -> Reference:
    """A notebook image with these packages: the same for the same."""
    where = system_repository(settings)
    named = hashlib.sha256(" ".join((packages.base, *packages.names)).encode()).hexdigest()
    return Reference(where.host, where.repository, named[:40])


def base_of(registry: Registry, settings: KubernetesSettings) -> Reference:
    """The notebook image as it is now, by the digest of the very manifest for this architecture. Raises RegistryError."""
    return registry.image(parse(settings.pods.image), own_architecture()).reference
