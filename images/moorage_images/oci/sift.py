"""What a stranger's root wrote as a tar -> a layer to lay on a base image: read member by member, written anew, nothing of it unpacked.

Whoever unpacks an image on a node reads our headers, never a stranger's. What would raise a user's rights goes: setuid, setgid of
files, devices. Nothing may lie where the base has Moorage's own programs.
"""

import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from moorage_images.errors import BuildError, UnsafeTreeError
from moorage_images.oci.packed import Packed, PackedTar, ShortError
from moorage_images.oci.tree import GIB, shown

OWN = "opt/moorage"
WHITEOUT = ".wh."  # in a layer such a name removes what lies below it
_REMOVE = "Remove the package."
_LARGEST_ID = 65_535
_LATEST = 1 << 33  # seconds: what a header of this form holds
_KINDS = (tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)


@dataclass(frozen=True, kw_only=True)
class SiftBounds:
    """`size`: of all files together, in bytes; `longest_path`: in bytes."""

    entries: int = 500_000
    size: int = 32 * GIB
    longest_path: int = 3000


def sift(source: Path, into: Path, bounds: SiftBounds = SiftBounds()) -> Packed:
    """The layer, as the file `into`. Raises UnsafeTreeError for what can't be part of an image, BuildError when the disk fails."""
    try:
        with tarfile.open(source, "r|") as tar, PackedTar(into) as packed:
            seen = _Seen(bounds=bounds)
            for member in tar:
                ours = seen.judged(member)
                packed.add(ours, cast("BinaryIO | None", tar.extractfile(member)) if ours.isreg() else None)
            made = packed.finish()
    except (tarfile.TarError, ShortError, EOFError) as error:
        raise UnsafeTreeError(
            "What the packages changed can't be read: the archive is damaged. Build again."
        ) from error
    except OSError as error:
        raise BuildError(f"The layer can't be written: {error}. An admin has to look at the disk.") from error
    if made is None:
        raise UnsafeTreeError("The packages changed nothing: the notebook image has them all. Leave them out.")
    return made


@dataclass(kw_only=True)
class _Seen:
    """What came by so far. `files`: those that a hard link may lead to; `links`: symbolic ones, through which nothing may be written."""

    bounds: SiftBounds
    entries: int = 0
    size: int = 0
    files: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)

    def judged(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Our own header for it. Raises UnsafeTreeError."""
        name = self._path(member.name)
        kind = tarfile.REGTYPE if member.isreg() else member.type
        if kind not in _KINDS:
            raise UnsafeTreeError(f"{shown(name)} is a device or a pipe, which no image gets. {_REMOVE}")
        self._check_place(name, folder=kind == tarfile.DIRTYPE)
        ours = tarfile.TarInfo(name)
        ours.type = kind
        ours.uid, ours.gid = (min(max(0, each), _LARGEST_ID) for each in (member.uid, member.gid))
        ours.mtime = min(max(0, int(member.mtime)), _LATEST)
        ours.mode = stat.S_IMODE(member.mode) & ~(0 if kind == tarfile.DIRTYPE else stat.S_ISUID | stat.S_ISGID)
        if kind == tarfile.REGTYPE:
            ours.size = member.size
            self.files.add(name)
        elif kind == tarfile.SYMTYPE:
            ours.linkname = _text(member.linkname, self.bounds.longest_path)
            self.links.add(name)
        elif kind == tarfile.LNKTYPE:
            ours.linkname = self._path(member.linkname)
            if ours.linkname not in self.files:
                raise UnsafeTreeError(f"{shown(name)} is a link to nothing that came before it. {_REMOVE}")
        self._count(ours.size)
        return ours

    def _count(self, size: int) -> None:
        self.entries += 1
        self.size += size
        if self.entries > self.bounds.entries or self.size > self.bounds.size:
            most = f"{self.bounds.entries} files or {self.bounds.size >> 20} MiB"
            raise UnsafeTreeError(f"The packages of `system:` bring more than {most}. Ask for fewer.")

    def _path(self, name: str) -> str:
        """As it stands in the layer: below the image's root, in its plain form."""
        plain = _text(name.removeprefix("./").rstrip("/"), self.bounds.longest_path)
        if any(part in ("", ".", "..") for part in plain.split("/")):
            raise UnsafeTreeError(f"{shown(name)} is no path below the image's root. {_REMOVE}")
        return plain

    def _check_place(self, name: str, *, folder: bool) -> None:
        above, _, last = name.rpartition("/")
        changed = name
        if last.startswith(WHITEOUT):
            last = last.removeprefix(WHITEOUT)
            changed, folder = f"{above}/{last}".removeprefix("/"), False
        if not last or f"/{above}/{last}".find(f"/{WHITEOUT}") >= 0:
            raise UnsafeTreeError(f"{shown(name)} would hide more of the image than one name. {_REMOVE}")
        if any(each in self.links for each in _ancestors(name)):
            raise UnsafeTreeError(f"{shown(name)} leads through a link. {_REMOVE}")
        if f"{changed}/".startswith(f"{OWN}/") or (not folder and OWN.startswith(f"{changed}/")):
            raise UnsafeTreeError(f"{shown(name)} is where Moorage's own programs are. {_REMOVE}")


def _ancestors(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _text(text: str, longest: int) -> str:
    if not text or "\0" in text or len(text.encode("utf-8", "surrogateescape")) > longest:
        raise UnsafeTreeError(f"{shown(text[:200])} is no path of at most {longest} bytes. {_REMOVE}")
    return text
