"""The words of the OCI image specification: what a manifest and a config say, read with care and written the same each time. Pure."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage_images.errors import RefusedError
from moorage_images.oci.reference import Reference

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
# What Docker calls the same bytes. Their digests stay, and no blob is touched.
_OCI_NAMES = {
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.container.image.v1+json": CONFIG,
}
_LAYERS = frozenset(
    {LAYER_ZSTD, "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"}
)


def own_architecture() -> str:
    """This machine's, as images call it: "amd64"."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A blob of an image; `size` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        said = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return said | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True, kw_only=True)
class RemoteImage:
    """An image in a registry. `layers` and `diff_ids` are equally long; `config` is the whole document."""

    reference: Reference  # by digest
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of its processes: the part of the config that is called config, too."""
        return _table(self.config.get("config"))

    @property
    def labels(self) -> Mapping[str, str]:
        said = _table(self.settings.get("Labels"))
        return {name: text for name, text in said.items() if isinstance(text, str)}

    @property
    def variables(self) -> Mapping[str, str]:
        """Of its processes, in their order."""
        return dict(one.partition("=")[::2] for one in _list(self.settings.get("Env")) if isinstance(one, str))

    @property
    def history(self) -> list[Mapping[str, Any]]:
        """One for each layer, and some for none; empty where it does not tell of each layer, for then it tells nothing."""
        found = [_table(one) for one in _list(self.config.get("history"))]
        return found if len([one for one in found if not one.get("empty_layer")]) == len(self.layers) else []


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def encoded(document: Mapping[str, Any]) -> bytes:
    """The same bytes for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decoded(content: bytes, what: object) -> dict[str, Any]:
    """Raises RefusedError for what is no JSON object."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise not_an_image(what, "it is no JSON") from error
    if not isinstance(document, dict):
        raise not_an_image(what, "it is no JSON object")
    return document


def choose(index: Mapping[str, Any], architecture: str, reference: Reference) -> str:
    """The digest of the manifest for linux and `architecture` ("amd64", "arm64") in an index of several. Raises RefusedError."""
    for one in _list(index.get("manifests")):
        platform = _table(_table(one).get("platform"))
        if platform.get("os") == "linux" and platform.get("architecture") == architecture:
            return parse_descriptor(one, reference).digest
    raise RefusedError(f"{reference} is not there for linux/{architecture}. Name a base image that is.")


def parse_layers(manifest: Mapping[str, Any], reference: Reference) -> tuple[Descriptor, ...]:
    layers = manifest.get("layers")
    if not isinstance(layers, list):
        raise not_an_image(reference, "its manifest names no layers")
    found = tuple(parse_descriptor(one, reference) for one in layers)
    for one in found:
        if one.media_type not in _LAYERS:
            raise not_an_image(reference, f"a layer is of the kind {one.media_type[:100]!r}, which can't be kept")
    return found


def parse_descriptor(document: object, what: object) -> Descriptor:
    said = _table(document)
    kind, digest, size = said.get("mediaType"), said.get("digest"), said.get("size")
    if not (isinstance(kind, str) and isinstance(digest, str) and isinstance(size, int)):
        raise not_an_image(what, "its manifest names a blob without its kind, digest or size")
    if not _DIGEST.fullmatch(digest) or size < 0:
        raise not_an_image(what, f"a blob has the digest {digest[:80]!r}")
    annotations = {name: text for name, text in _table(said.get("annotations")).items() if isinstance(text, str)}
    return Descriptor(media_type=_OCI_NAMES.get(kind, kind), digest=digest, size=size, annotations=annotations)


def parse_diff_ids(config: Mapping[str, Any], count: int, what: object) -> tuple[str, ...]:
    """One for each of `count` layers, else RefusedError."""
    found = _table(config.get("rootfs")).get("diff_ids")
    if not isinstance(found, list) or len(found) != count:
        raise not_an_image(what, "its config does not name each of its layers")
    if not all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in found):
        raise not_an_image(what, "its config names a layer by something else than a digest")
    return tuple(found)


def not_an_image(what: object, why: str) -> RefusedError:
    return RefusedError(f"{what} can't be used as an image: {why}. Name another one, or push it again.")


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
