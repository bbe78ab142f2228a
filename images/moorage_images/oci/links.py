"""Where the links of a tree lead, once it lies in an image. Pure: told from what the links say, no file system is asked."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from moorage_images.errors import UnsafeTreeError
from moorage_images.oci.tree import shown

_MOST_STEPS = 40  # from link to link, as the kernel's: what takes more leads nowhere
_MOST_PARTS = 4000  # of all the paths on the way; an honest link has ten
_PYTHON = re.compile(r"python[0-9.]*", re.ASCII)


def check_links(links: Mapping[str, str], *, prefix: PurePosixPath, interpreter: PurePosixPath) -> None:
    """`links`: path below the tree -> target, all of them; `prefix`: where the tree will lie; `interpreter`: the base image's.

    Raises UnsafeTreeError for one that leads outside, unless to the interpreter under one of its names; and unless
    bin/python leads there.
    """
    for path, target in links.items():
        end = _end(path, links, prefix)
        if end is not None and not _is_interpreter(end, interpreter):
            raise UnsafeTreeError(
                f"{shown(path)} links to {shown(target)}, outside the environment. Remove the package that made it."
            )
    python = _end("bin/python", links, prefix)
    if python is None or not _is_interpreter(python, interpreter):
        raise UnsafeTreeError(
            f"bin/python of the environment is not {interpreter}. Remove the package that changed it."
        )


def check_home(settings: bytes, interpreter: PurePosixPath) -> None:
    """`settings`: the content of pyvenv.cfg. Raises UnsafeTreeError if it names another Python than the base image's."""
    lines = settings.decode(errors="replace").splitlines()
    said = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    if said.get("home") != str(interpreter.parent):
        raise UnsafeTreeError("pyvenv.cfg of the environment names another Python. Remove the package that changed it.")


def _is_interpreter(path: str, interpreter: PurePosixPath) -> bool:
    place = PurePosixPath(path)
    return place.parent == interpreter.parent and _PYTHON.fullmatch(place.name) is not None


def _end(path: str, links: Mapping[str, str], prefix: PurePosixPath) -> str | None:
    """The first place outside the tree that the path leads to; None when it stays inside, or leads nowhere.

    What takes too long to tell counts as outside.
    """
    here: list[str] = []
    waiting = path.split("/")[::-1]
    steps, parts = 0, 0
    while waiting:
        parts += 1
        if parts > _MOST_PARTS:
            return "/"
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return "/".join(("..", *waiting[::-1]))
            here.pop()
            continue
        here.append(part)
        target = links.get("/".join(here))
        if target is None:
            continue
        steps += 1
        if steps > _MOST_STEPS:
            return None
        if target.startswith("/"):
            inside = _below(target, prefix)
            if inside is None:
                return "/".join((target, *waiting[::-1]))
            here, target = [], inside
        else:
            here.pop()
        waiting.extend(target.split("/")[::-1])
    return None


def _below(target: str, prefix: PurePosixPath) -> str | None:
    """An absolute target as a path below the tree, else None."""
    start = f"{prefix}/"
    if target == str(prefix):
        return ""
    return target.removeprefix(start) if target.startswith(start) else None
