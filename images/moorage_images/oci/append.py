"""Appends an environment's layers to a base image that lies in a registry. The same input gives the same digest.

Nothing of the base is fetched or sent but its manifest and config. Where an image's layers come from stands in its manifest, so that
they go onto a new base without a build.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from moorage_images.errors import RefusedError
from moorage_images.oci.image import CONFIG, MANIFEST, Descriptor, RemoteImage, digest_of, encoded
from moorage_images.oci.layers import Layer
from moorage_images.oci.reference import Reference
from moorage_images.oci.registry import Registry

ENVIRONMENT, BASE, PREFIX = "moorage.environment", "moorage.base", "moorage.prefix"  # labels of an image
SYSTEM = "moorage.system"  # another: Debian packages that were laid on its base, by their names
PART = "moorage.layer"  # annotation of a layer of ours, in the manifest
_OURS = "moorage."
_EPOCH = "1970-01-01T00:00:00Z"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where a base says none


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What the image is to say beside its base's config: `labels` have names that begin with "moorage."."""

    environment: str  # its digest
    prefix: PurePosixPath  # where it lies in the image
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OwnLayer:
    """A layer to append: its file, or the image in a registry that has it."""

    descriptor: Descriptor
    diff_id: str
    source: Path | Reference


@dataclass(frozen=True, kw_only=True)
class Image:
    """`size`: of all its layers, compressed; `sent`: of those that were not in the registry yet. In bytes."""

    reference: Reference  # by digest
    base: Reference  # by digest, of the very manifest for linux and the architecture
    size: int
    sent: int


def own(layers: Sequence[Layer]) -> tuple[OwnLayer, ...]:
    return tuple(
        OwnLayer(
            descriptor=Descriptor(
                media_type=one.media_type, digest=one.digest, size=one.size, annotations={PART: one.part.value}
            ),
            diff_id=one.diff_id,
            source=one.path,
        )
        for one in layers
    )


def append(
    registry: Registry,
    base: Reference,
    layers: Sequence[OwnLayer],
    target: Reference,
    changes: Changes,
    *,
    architecture: str,
) -> Image:
    """The image `target`: the base for linux and `architecture`, and the layers on it. Its manifest comes last: half an image is none.

    Raises RegistryError; what was sent by then stays, and is not sent again.
    """
    below = registry.image(base, architecture)
    if ENVIRONMENT in below.labels:
        raise RefusedError(f"{base} holds an environment already. Name the base image that it was made from.")
    return _lay(registry, below, layers, target, _config(below, layers, changes))


def append_system(
    registry: Registry,
    base: Reference,
    layer: OwnLayer,
    target: Reference,
    packages: Sequence[str],
    *,
    architecture: str,
) -> Image:
    """The image `target`: the base with these packages of Debian in one layer more; environments are laid on it as on the base."""
    below = registry.image(base, architecture)
    if {ENVIRONMENT, SYSTEM} & set(below.labels):
        raise RefusedError(f"{base} was made from a base image already. Name that one.")
    inner = {**below.settings, "Labels": {**below.labels, SYSTEM: " ".join(packages), BASE: below.reference.digest}}
    comment = f"system packages {' '.join(packages)}"
    return _lay(registry, below, [layer], target, _extended(below, [layer], inner, [comment]))


def _lay(
    registry: Registry, below: RemoteImage, layers: Sequence[OwnLayer], target: Reference, document: Mapping[str, Any]
) -> Image:
    brought = [one for one in below.layers if registry.bring(one, below.reference, target)]
    placed = [one.descriptor for one in layers if _place(registry, one, target)]
    config = encoded(document)
    described = Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config))
    registry.upload(target, config, described.digest)
    blobs = [*below.layers, *(one.descriptor for one in layers)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described.document(),
        "layers": [one.document() for one in blobs],
    }
    return Image(
        reference=registry.put_manifest(target, encoded(manifest)),
        base=below.reference,
        size=sum(one.size for one in blobs),
        sent=sum(one.size for one in (*brought, *placed)),
    )


def reappend(
    registry: Registry, existing: Reference, base: Reference, target: Reference, *, architecture: str
) -> Image:
    """The same environment on another base. Raises RefusedError when `existing` was not made by `append`, or lies on other packages of
    Debian than `base` has.
    """
    found = registry.image(existing, architecture)
    layers = tuple(
        OwnLayer(descriptor=one, diff_id=diff_id, source=found.reference)
        for one, diff_id in zip(found.layers, found.diff_ids, strict=True)
        if PART in one.annotations
    )
    if not layers or ENVIRONMENT not in found.labels or PREFIX not in found.labels:
        raise RefusedError(f"{existing} is no image of an environment. Build the environment.")
    if found.labels.get(SYSTEM) != registry.image(base, architecture).labels.get(SYSTEM):
        raise RefusedError(f"{existing} has packages of Debian that {base} has not. Build its project again.")
    changes = Changes(
        environment=found.labels[ENVIRONMENT],
        prefix=PurePosixPath(found.labels[PREFIX]),
        labels={name: text for name, text in found.labels.items() if name.startswith(_OURS)},
    )
    return append(registry, base, layers, target, changes, architecture=architecture)


def _place(registry: Registry, layer: OwnLayer, target: Reference) -> bool:
    if isinstance(layer.source, Path):
        return registry.upload(target, layer.source, layer.descriptor.digest)
    return registry.bring(layer.descriptor, layer.source, target)


def _config(base: RemoteImage, layers: Sequence[OwnLayer], changes: Changes) -> dict[str, Any]:
    """The base's, with ours added."""
    inner = dict(base.settings)
    inner["Env"] = _variables(base.variables, changes.prefix)
    inner["Labels"] = {
        **base.labels,
        **changes.labels,
        ENVIRONMENT: changes.environment,
        PREFIX: str(changes.prefix),
        BASE: base.reference.digest,
    }
    comments = [f"environment {changes.environment}, {one.descriptor.annotations[PART]}" for one in layers]
    return _extended(base, layers, inner, comments)


def _extended(
    base: RemoteImage, layers: Sequence[OwnLayer], inner: Mapping[str, Any], comments: Sequence[str]
) -> dict[str, Any]:
    """The base's config with `layers`, one comment for each. Times are the base's, and fixed ones."""
    document = dict(base.config)
    document["config"] = inner
    document["rootfs"] = {"type": "layers", "diff_ids": [*base.diff_ids, *(one.diff_id for one in layers)]}
    document.pop("history", None)
    if base.history or not base.layers:
        ours = [{"created": _EPOCH, "created_by": "moorage", "comment": comment} for comment in comments]
        document["history"] = [*base.history, *ours]
    return document


def _variables(known: Mapping[str, str], prefix: PurePosixPath) -> list[str]:
    """The base's, in their order, with the environment's programs before all others."""
    path = f"{prefix}/bin:{known.get('PATH') or _PATH}"
    return [f"{name}={value}" for name, value in {**known, "PATH": path, "VIRTUAL_ENV": str(prefix)}.items()]
