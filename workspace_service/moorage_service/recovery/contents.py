"""What a copy of an installation holds: its manifest, and the parts of the state folder that go into it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import IO, Any

FORMAT = 1
MANIFEST = "manifest.json"
SERVICE_DATABASE, HUB_DATABASE, DUMP = "database/service.sqlite", "database/hub.sqlite", "database/service.dump"
# Parts as an admin names them -> what they are, in words.
SETTINGS = ("settings.yaml", "ports.json")
FOLDERS = {
    "secrets": "keys and tokens",
    "snapshots": "sources of jobs and projects",
    "outputs": "outputs of runs",
    "homes": "homes of users",
    "environments": "environments of projects",
}
PIECE = 1 << 20


class CopyError(Exception):
    """A copy can't be made or put back; the text says why and what to do. Nothing was changed, unless it says so."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`members`: path in the copy -> [size in bytes, SHA-256 in hex] of each plain file."""

    version: str
    schema: str
    made_at: str  # ISO 8601
    database: str  # sqlite, postgresql
    members: dict[str, list[Any]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # "PATH: why" of what could not be copied; not in older copies
    format: int = FORMAT

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Raises CopyError for what is none, or is of a later format."""
        try:
            found = json.loads(content)
            if found["format"] > FORMAT:
                raise CopyError("The copy was made by a newer version of Moorage. Put it back with that version.")
            return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})
        except (ValueError, KeyError, TypeError) as error:
            raise CopyError(f"The copy's {MANIFEST} can't be read ({type(error).__name__}). It is damaged.") from error


class Digesting:
    """A file that is read through: of exactly `size` bytes, whatever becomes of it meanwhile, with their digest."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self._digest = hashlib.sha256()
        self.size = size

    def read(self, most: int = -1) -> bytes:
        wanted = self._left if most < 0 else min(most, self._left)
        piece = self._file.read(wanted)
        if len(piece) < wanted:  # it became shorter: a home changes while it is copied
            piece += bytes(wanted - len(piece))
        self._left -= len(piece)
        self._digest.update(piece)
        return piece

    @property
    def entry(self) -> list[Any]:
        return [self.size, self._digest.hexdigest()]


def size_in_words(size: int) -> str:
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} bytes"


def in_words(manifest: Manifest) -> str:
    """What is inside, for people."""
    counts: Mapping[str, int] = {
        part: sum(1 for name in manifest.members if name.startswith(f"{part}/")) for part in manifest.parts
    }
    said = [f"{FOLDERS[part]} ({counts[part]} files)" for part in manifest.parts if part in FOLDERS]
    hub = ", the hub's database" if HUB_DATABASE in manifest.members else ""
    return ", ".join([f"the service's database (schema {manifest.schema}){hub}", "settings", *said])
