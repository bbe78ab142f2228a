"""The trusted step as a program: what Debian's packages changed in a notebook image -> that image with one layer more, in the registry.

`python -m moorage_images.oci.push_system --layer ... --base ... --target ... --packages ... --result FILE`

As `oci.push` it holds credentials, and runs nothing of what it reads. FILE gets one JSON object: `image`, `size`, `sent`; or `error`,
a code, and `message`, a sentence.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moorage_images.errors import BuildError, ImagesError
from moorage_images.oci import credentials
from moorage_images.oci.append import OwnLayer, append_system
from moorage_images.oci.connection import Connection
from moorage_images.oci.image import LAYER_ZSTD, Descriptor
from moorage_images.oci.push import LONGEST_MESSAGE, add_registry_options
from moorage_images.oci.reference import parse
from moorage_images.oci.registry import Registry
from moorage_images.oci.sift import sift


def push(given: argparse.Namespace) -> dict[str, Any]:
    """What FILE gets. Raises ImagesError."""
    known = credentials.read(given.credentials) if given.credentials else {}
    try:
        with tempfile.TemporaryDirectory(dir=given.scratch, prefix="moorage-system-") as folder:
            path = Path(folder) / "layer.tar.zst"
            packed = sift(given.layer, path)
            layer = OwnLayer(
                descriptor=Descriptor(media_type=LAYER_ZSTD, digest=packed.digest, size=packed.size),
                diff_id=packed.diff_id,
                source=path,
            )
            with Connection(known, plain_http=tuple(given.plain_http)) as connection:
                image = append_system(
                    Registry(connection), parse(given.base), layer, parse(given.target), given.packages,
                    architecture=given.architecture,
                )  # fmt: skip
    except OSError as error:
        raise BuildError(f"The layer can't be written: {error}. An admin has to look at the disk.") from error
    return {"image": str(image.reference), "size": image.size, "sent": image.sent}


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        result, status = push(given), 0
    except ImagesError as error:
        sys.stderr.write(f"{error.message}\n")
        result, status = {"error": error.code, "message": error.message[:LONGEST_MESSAGE]}, 1
    given.result.write_text(json.dumps(result) + "\n")  # in its place: in a pod it is a mount
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moorage-push-system", description="Puts a notebook image with Debian's packages into a registry."
    )
    parser.add_argument("--layer", type=Path, required=True, help="the tar of what the packages changed")
    parser.add_argument("--packages", nargs="+", required=True, help="their names")
    add_registry_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
