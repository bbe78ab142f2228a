"""The trusted step as a program: the tree that a pod has built -> an image in the registry.

`python -m moorage_images.oci.push --tree ... --base ... --target ... --environment ... --interpreter ... --result FILE`

It holds what a build must never see, credentials to push with, and runs nothing of the tree. FILE, of a pod its termination message,
gets one JSON object: `image`, `base`, `size`, `sent`, `layers` and `seconds`; or `error`, a code, and `message`, a sentence.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from moorage_images.environments import path_of
from moorage_images.errors import BuildError, ImagesError
from moorage_images.oci import credentials, layers
from moorage_images.oci.append import Changes, append, own
from moorage_images.oci.connection import Connection
from moorage_images.oci.image import own_architecture
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_images.oci.tree import GIB, TreeBounds

ENVIRONMENTS = Path("/opt/moorage/environments")  # where an environment is found by its digest
LONGEST_MESSAGE = 1500  # characters; a pod's termination message takes 4096 bytes


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to push, whereto, and with what."""

    tree: Path
    prefix: PurePosixPath
    environment: str
    interpreter: PurePosixPath
    base: Reference
    target: Reference
    architecture: str
    credentials: Path | None
    plain_http: tuple[str, ...]
    scratch: Path | None
    bounds: TreeBounds


def push(task: Task) -> dict[str, Any]:
    """What FILE gets. Raises ImagesError; the tree is left as it is."""
    alias = PurePosixPath(_environment(task.environment))
    known = credentials.read(task.credentials) if task.credentials else {}
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(dir=task.scratch, prefix="moorage-layers-") as folder:
            made = layers.write_layers(
                task.tree,
                Path(folder),
                interpreter=task.interpreter,
                prefix=task.prefix,
                alias=alias,
                bounds=task.bounds,
            )
            read = time.monotonic()
            with Connection(known, plain_http=task.plain_http) as connection:
                changes = Changes(environment=task.environment, prefix=task.prefix)
                registry = Registry(connection)
                image = append(registry, task.base, own(made), task.target, changes, architecture=task.architecture)
    except OSError as error:
        raise BuildError(f"The layers can't be written: {error}. An admin has to look at the disk.") from error
    return {
        "image": str(image.reference),
        "base": str(image.base),
        "size": image.size,
        "sent": image.sent,
        "layers": {one.part.value: {"digest": one.digest, "size": one.size, "unpacked": one.unpacked} for one in made},
        "seconds": {"layers": round(read - started, 2), "push": round(time.monotonic() - read, 2)},
    }  # fmt: skip


def _environment(digest: str) -> Path:
    try:
        return path_of(ENVIRONMENTS, digest)
    except ValueError as error:
        raise BuildError(f"{error}. Ask an admin.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        result, status = push(_task(given)), 0
    except ImagesError as error:
        sys.stderr.write(f"{error.message}\n")
        result, status = {"error": error.code, "message": error.message[:LONGEST_MESSAGE]}, 1
    given.result.write_text(
        json.dumps(result) + "\n"
    )  # in its place: in a pod it is a mount, which nothing can be renamed to
    return status


def _task(given: argparse.Namespace) -> Task:
    return Task(
        tree=given.tree,
        prefix=given.prefix,
        environment=given.environment,
        interpreter=given.interpreter,
        base=parse(given.base),
        target=parse(given.target),
        architecture=given.architecture,
        credentials=given.credentials,
        plain_http=tuple(given.plain_http),
        scratch=given.scratch,
        bounds=TreeBounds(entries=given.most_files, size=int(given.most_gib * GIB)),
    )


def _parser() -> argparse.ArgumentParser:
    bounds = TreeBounds()
    parser = argparse.ArgumentParser(
        prog="moorage-push", description="Puts a built environment into a registry, as an image."
    )
    parser.add_argument("--tree", type=Path, required=True, help="where the built environment lies here")
    parser.add_argument(
        "--prefix",
        type=PurePosixPath,
        default=layers.PREFIX,
        help="where it lay while it was built, and lies in the image [%(default)s]",
    )
    parser.add_argument("--environment", required=True, help="its digest")
    parser.add_argument("--interpreter", type=PurePosixPath, required=True, help="the Python of the base image")
    add_registry_options(parser)
    parser.add_argument("--most-files", type=int, default=bounds.entries, help="of an environment [%(default)s]")
    parser.add_argument("--most-gib", type=float, default=bounds.size / GIB, help="of an environment [%(default)s]")
    return parser


def add_registry_options(parser: argparse.ArgumentParser) -> None:
    """What every program that pushes is told."""
    parser.add_argument("--base", required=True, help="the base image, best by digest")
    parser.add_argument("--target", required=True, help="the image's name, with a tag: what has none can't be listed")
    parser.add_argument("--result", type=Path, required=True, help="the file for what came of it, as JSON")
    parser.add_argument("--architecture", default=own_architecture(), help="[%(default)s]")
    parser.add_argument("--credentials", type=Path, help="a .dockerconfigjson")
    parser.add_argument(
        "--plain-http",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a registry without TLS; may be said again",
    )
    parser.add_argument("--scratch", type=Path, help="a folder with room for the layers")


if __name__ == "__main__":
    sys.exit(main())
