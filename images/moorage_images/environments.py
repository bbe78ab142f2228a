"""The folder of environments: `<root>/<digest>`, each immutable and complete once its record is there."""

import importlib.metadata
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from moorage_images.seal import remove

RECORD = "moorage-environment.json"
LOCK = "moorage-lock.txt"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}", re.ASCII)


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
    try:
        folder = path_of(root, digest)
        return EnvironmentRecord(**json.loads((folder / RECORD).read_text()), lock=(folder / LOCK).read_text())
    except FileNotFoundError:
        return None


def write(root: Path, record: EnvironmentRecord) -> None:
    """Completes the environment. The folder is sealed already, and stays so."""
    folder = path_of(root, record.digest)
    values = asdict(record)
    folder.chmod(0o755)
    _place(folder / LOCK, values.pop("lock"))
    _place(folder / RECORD, json.dumps(values, indent=1, sort_keys=True) + "\n")
    folder.chmod(0o555)


def _place(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o444)
    fresh.rename(path)


def installed(folder: Path) -> dict[str, str]:
    """Name -> version of what is installed in the environment, read from its metadata; none of its code runs."""
    sites = [str(site) for site in folder.glob("lib/python3*/site-packages")]
    found = importlib.metadata.distributions(path=sites)
    return dict(sorted((canonicalize_name(one.metadata["Name"]), one.version) for one in found if one.metadata["Name"]))


def sweep(root: Path) -> list[str]:
    """Removes what a killed build left half made; answers the names. Only while no build runs."""
    folders = [folder for folder in root.iterdir() if folder.is_dir() and not folder.is_symlink()]  # a link is not ours
    left = [folder for folder in folders if not (folder / RECORD).exists()]
    for folder in left:
        remove(folder)
    return [folder.name for folder in left]
