"""The folder of environments: `<root>/<digest>`, each immutable and complete once its record is there."""

import ctypes
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from moorage_images.seal import remove

log = logging.getLogger(__name__)

RECORD = "moorage-environment.json"
LOCK = "moorage-lock.txt"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}", re.ASCII)
_METADATA = ("*.dist-info/METADATA", "*.egg-info/PKG-INFO", "*.egg-info")  # the last: a file, by old tools
_MOST_METADATA = 1 << 20  # bytes; the name stands at its beginning, and a sparse file may have any number


@dataclass(frozen=True, kw_only=True)
class EnvironmentRecord:
    """What `moorage-environment.json` says. It is written last: where it is, the environment is complete."""

    digest: str
    python: str  # "3.11.2"
    architecture: str
    created_at: str  # ISO 8601, UTC
    from_source: bool  # built by running code of packages: belongs to one project
    packages: dict[str, str] = field(default_factory=dict)  # name -> version
    lock: str = ""


def path_of(root: Path, digest: str) -> Path:
    """The environment's folder. Raises ValueError for what can't be the name of one, such as a path."""
    if not _NAME.fullmatch(digest):
        raise ValueError(f"{digest[:80]!r} can't be the name of an environment")
    return root / digest


def read(root: Path, digest: str) -> EnvironmentRecord | None:
    """The record of a complete environment, else None."""
    folder = path_of(root, digest)
    values = _recorded(folder)
    if values is None:
        return None
    known = {each.name for each in fields(EnvironmentRecord)} - {"lock"}  # a newer version may say more
    try:
        lock = (folder / LOCK).read_text()
        return EnvironmentRecord(**{name: value for name, value in values.items() if name in known}, lock=lock)
    except (FileNotFoundError, ValueError, TypeError):  # no lock, one that is no text, or a record that lacks something
        return None


def _recorded(folder: Path) -> dict[str, Any] | None:
    """What the record says. None where there is none, or where a power cut left one that is empty or cut short."""
    try:
        values = json.loads((folder / RECORD).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def write(root: Path, record: EnvironmentRecord) -> None:
    """Completes the environment. The folder is sealed already, and stays so.

    All else is on the disk before its record is, and that before we return: the store, which names it next, outlives a power cut.
    """
    folder = path_of(root, record.digest)
    values = asdict(record)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder.chmod(0o755)
        _sync_all(descriptor)
        _place(folder / LOCK, values.pop("lock"))
        _place(folder / RECORD, json.dumps(values, indent=1, sort_keys=True) + "\n")
        folder.chmod(0o555)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(descriptor: int) -> None:
    """The whole file system that holds it. File by file takes a hundred times as long: 38 s, not 0.4, for 20 000 files."""
    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")


def _place(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with open(fresh, "w") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    fresh.rename(path)


def installed(folder: Path) -> dict[str, str]:
    """Name -> version of what is installed in the environment, read from its metadata; none of its code runs."""
    found = (_name_and_version(path) for path in _metadata(folder))
    return dict(sorted((canonicalize_name(name), version) for name, version in found if name and version))


def _metadata(folder: Path) -> Iterator[Path]:
    for pattern in _METADATA:
        yield from (path for path in folder.glob(f"lib/python3*/site-packages/{pattern}") if path.is_file())


def _name_and_version(path: Path) -> tuple[str | None, str | None]:
    with path.open("rb") as file:
        said = HeaderParser().parsestr(file.read(_MOST_METADATA).decode(errors="replace"))
    return said["Name"], said["Version"]


def sweep(root: Path) -> list[str]:
    """Removes what a killed build or a power cut left half made; answers the names. Only while no build runs.

    One that can't go keeps no other. One whose record is whole stays, whichever version wrote it: what runs may need it.
    """
    folders = [folder for folder in root.iterdir() if folder.is_dir() and not folder.is_symlink()]  # a link is not ours
    return [folder.name for folder in folders if _swept(folder)]


def _swept(folder: Path) -> bool:
    try:
        if _recorded(folder) is not None:
            return False
        remove(folder)
    except OSError:
        log.exception("what a build left can't be removed: %s", folder)
        return False
    return True
