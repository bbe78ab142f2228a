"""A base image of a few bytes, pushed through our own client."""

import gzip
from typing import Any

from moorage_images.oci.image import CONFIG, MANIFEST, Descriptor, digest_of, encoded
from moorage_images.oci.reference import Reference
from moorage_images.oci.registry import Registry
from tests.archives import tar_of

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def push_base(registry: Registry, target: Reference, *, text: bytes = b"base", **config: Any) -> Reference:
    """For linux/amd64, of one layer; `config` replaces parts of its config. By digest."""
    tar = tar_of({"etc/base": text})
    packed = gzip.compress(tar, mtime=0)
    registry.upload(target, packed, digest_of(packed))
    document = {
        "os": "linux", "architecture": "amd64", "created": "2026-01-02T03:04:05Z",
        "config": {"Env": ["LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/bin"], "User": "1000", "Labels": {"maker": "tests"}},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]},
        "history": [{"created": "2026-01-02T03:04:05Z", "created_by": "tests"}, {"created_by": "ENV", "empty_layer": True}],
    } | config  # fmt: skip
    body = encoded(document)
    registry.upload(target, body, digest_of(body))
    layer = Descriptor(media_type=GZIP, digest=digest_of(packed), size=len(packed))
    described = Descriptor(media_type=CONFIG, digest=digest_of(body), size=len(body))
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described.document(), "layers": [layer.document()],
    }  # fmt: skip
    return registry.put_manifest(target, encoded(manifest))
