"""The trusted step after a build: nobody can write in the tree any more, and nothing in it reaches outside.

It runs when every process of the build is gone, and reads the tree without running anything of it.
"""

import os
import stat
from pathlib import Path

from moorage import folders
from moorage_images.errors import UnsafeTreeError
from moorage_images.interpreters import Interpreter

_LONGEST_PATH = 2000  # bytes below the tree; the rest of the 4096 is for where the tree lies
_LARGEST_SETTINGS = 1 << 20  # bytes of pyvenv.cfg, which has some hundred; a sparse file may have any number


def seal(tree: Path, interpreter: Interpreter, *, owner: tuple[int, int] | None) -> None:
    """Checks and freezes `tree`; `owner` (uid, gid) becomes the owner of everything (None: stays).

    Raises UnsafeTreeError naming the first path that can't be accepted.
    """
    root = tree.resolve()
    base = interpreter.path.resolve()
    if (root / "bin" / "python").resolve() != base:
        raise UnsafeTreeError(
            f"bin/python of the environment is not {interpreter.path}. Remove the package that changed it."
        )
    for below, inner, others, _ in folders.walk(root):
        if len(os.fsencode(below)) > _LONGEST_PATH:
            raise UnsafeTreeError(f"{below[:80]}... lies too deep. Remove the package that made it.")
        for name in inner + others:
            _seal_entry(root / below / name, root, base, owner)
    _check_home(root, interpreter)  # after the walk: by now it is a file, and nothing that blocks or leads away
    _freeze(root, 0o555, owner)


def _check_home(root: Path, interpreter: Interpreter) -> None:
    with (root / "pyvenv.cfg").open("rb") as file:
        content = file.read(_LARGEST_SETTINGS + 1)
    if len(content) > _LARGEST_SETTINGS:
        raise UnsafeTreeError("pyvenv.cfg of the environment is too large. Remove the package that changed it.")
    lines = content.decode(errors="replace").splitlines()
    settings = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    if settings.get("home") not in {str(interpreter.path.parent), str(interpreter.path.resolve().parent)}:
        raise UnsafeTreeError("pyvenv.cfg of the environment names another Python. Remove the package that changed it.")


def _seal_entry(path: Path, root: Path, base: Path, owner: tuple[int, int] | None) -> None:
    seen = path.lstat()
    shown = path.relative_to(root)
    if stat.S_ISLNK(seen.st_mode):
        target = path.resolve()
        if target != base and not target.is_relative_to(root):
            raise UnsafeTreeError(
                f"{shown} links to {target}, outside the environment. Remove the package that made it."
            )
        if owner is not None:
            os.lchown(path, *owner)
    elif stat.S_ISDIR(seen.st_mode):
        _freeze(path, 0o555, owner)
    elif stat.S_ISREG(seen.st_mode):
        if seen.st_nlink > 1:
            raise UnsafeTreeError(f"{shown} is a hard link. Remove the package that made it.")
        _freeze(path, 0o555 if seen.st_mode & 0o111 else 0o444, owner)
    else:
        raise UnsafeTreeError(f"{shown} is neither a file nor a folder. Remove the package that made it.")


def _freeze(path: Path, mode: int, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)
    path.chmod(mode)


def remove(tree: Path) -> None:
    """Removes a tree, sealed or half built. A link goes, not what it leads to. Nothing there: nothing. Raises OSError."""
    folders.remove(tree)
