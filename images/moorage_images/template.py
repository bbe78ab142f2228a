"""The starter project: what a new installation shows first, and what `moorage project new` begins from."""

from importlib.resources import files
from pathlib import Path

STARTER_SLUG = "starter"
_FOLDER = Path(str(files("moorage_images"))) / "starter"


def manifest() -> str:
    """The text of the starter's moorage.yaml."""
    return (_FOLDER / "moorage.yaml").read_text(encoding="utf-8")


def contents() -> dict[str, bytes]:
    """Every file of the starter, moorage.yaml included: path below the project -> content."""
    found = sorted(path for path in _FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in found}
