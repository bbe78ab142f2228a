"""The step of a build that installs Debian's packages, as a program of the notebook image, whose root it is: in a pod of its own.

`python -I -m moorage_images.system_build` installs, and writes what that changed in the image as a tar, for the step that pushes it.
It holds no credentials. What goes wrong is one JSON object in the file `--result`, as with `moorage_images.pod_build`.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moorage_images import root_changes
from moorage_images.debian import PATH, Apt
from moorage_images.errors import BuildError, ImagesError
from moorage_images.pod_build import LONGEST_MESSAGE, RESULT, say

FOLDER = Path("/opt/moorage/system")  # a volume of the pod
LAYER = FOLDER / "layer.tar"


@dataclass(frozen=True, kw_only=True)
class SystemTask:
    """`sources`, `settings`: of apt, where an admin says other ones than the image has."""

    packages: tuple[str, ...]
    sources: str = ""
    settings: str = ""

    def encoded(self) -> bytes:
        """The same for the same task."""
        return gzip.compress(json.dumps(asdict(self)).encode(), mtime=0)

    @staticmethod
    def read(path: Path) -> "SystemTask":
        said = json.loads(gzip.decompress(path.read_bytes()))
        return SystemTask(**{**said, "packages": tuple(said["packages"])})


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        _do(given)
    except (ImagesError, OSError) as raised:
        error = raised if isinstance(raised, ImagesError) else BuildError(f"The packages can't be installed: {raised}.")
        say(error.message)
        given.result.write_text(json.dumps({"error": error.code, "message": error.message[:LONGEST_MESSAGE]}))
        return 1
    return 0


def _do(given: argparse.Namespace) -> None:
    task = SystemTask.read(given.task)
    left_out = root_changes.LEFT_OUT | (root_changes.mounted() if given.root == Path("/") else frozenset())
    authorities = given.authorities if given.authorities.exists() else None
    apt = Apt(
        scratch=given.scratch, sources=task.sources, settings=task.settings, authorities=authorities, path=given.path
    )
    before = root_changes.look(given.root, left_out)
    apt.install(task.packages, say)
    after = root_changes.look(given.root, left_out)
    with given.layer.open("wb") as into:
        count = root_changes.write(given.root, before, after, into)
    say(f"They changed {count} files and folders, {given.layer.stat().st_size >> 20} MiB.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moorage-system-build", description="Installs Debian's packages, and says what that changed."
    )
    places: dict[str, tuple[Any, str]] = {
        "task": (Path("/etc/moorage/build/task"), "what is to be installed"),
        "root": (Path("/"), "where the image's root is"),
        "layer": (LAYER, "the file for what was changed"),
        "authorities": (Path("/etc/moorage/build/authorities.crt"), "by whom mirrors are known, if it is there"),
        "scratch": (Path("/tmp"), "a folder to work in"),  # noqa: S108 - the pod's own
        "result": (RESULT, "the file for what went wrong, as JSON"),
    }
    for name, (default, meaning) in places.items():
        parser.add_argument(f"--{name}", type=Path, default=default, help=f"{meaning} [%(default)s]")
    parser.add_argument("--path", default=PATH, help="where apt is looked for [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
