"""A tree -> layers: tar archives, compressed, that are the same to the byte for the same content. One pass, onto the disk.

The tree has to be made at `prefix` itself, for programs, pyvenv.cfg and bytecode hold the path; and a path that holds the digest
would make every layer new with each change, so `prefix` is one for all environments, and `alias` leads to it by the digest's name.
Bytecode has to be compiled with PYC_INVALIDATION_MODE=UNCHECKED_HASH: no time of a file outlives this step.
"""

import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from moorage import folders
from moorage_images.errors import BuildError, UnsafeTreeError
from moorage_images.oci.image import LAYER_ZSTD
from moorage_images.oci.links import check_home, check_links
from moorage_images.oci.packed import PackedTar, ShortError
from moorage_images.oci.split import Distribution, Part, Split, parse_record
from moorage_images.oci.tree import Entry, Kind, TreeBounds, entries, open_file, read_small, shown

PREFIX = PurePosixPath("/opt/moorage/environment")
_LARGEST_SETTINGS = 1 << 20  # bytes of pyvenv.cfg
_LARGEST_RECORD, _LARGEST_RECORDS = 16 << 20, 64 << 20  # bytes of one RECORD, and of all; ray's has some 2 MB


@dataclass(frozen=True, kw_only=True)
class Layer:
    """`digest` and `size` are of the compressed file at `path`, `diff_id` and `unpacked` of the tar within; sizes in bytes."""

    part: Part
    media_type: str
    digest: str
    size: int
    diff_id: str
    unpacked: int
    entries: int
    path: Path


def write_layers(
    tree: Path,
    into: Path,
    *,
    interpreter: PurePosixPath,
    prefix: PurePosixPath = PREFIX,
    alias: PurePosixPath | None = None,
    bounds: TreeBounds = TreeBounds(),
) -> tuple[Layer, ...]:
    """The layers of `tree`, at most one for each Part, none empty, as files in the folder `into`.

    `interpreter`: the base image's Python, the one place outside that a link may lead to. Raises UnsafeTreeError for a tree that
    can't be an image's, BuildError when the tree can't be read or the disk takes no more; the files are of no use then.
    """
    check_home(read_small(tree, "pyvenv.cfg", _LARGEST_SETTINGS), interpreter)
    split = Split(_distributions(tree))
    links: dict[str, str] = {}
    try:
        with ExitStack() as stack:
            writers = {part: stack.enter_context(_LayerWriter(part, into, prefix)) for part in Part}
            for entry in entries(tree, bounds):
                if entry.kind is Kind.LINK:
                    links[entry.path] = entry.target
                _write(entry, writers[split.part(entry.path)])
            check_links(links, prefix=prefix, interpreter=interpreter)
            if alias is not None and alias != prefix:
                writers[Part.REST].add_link(str(alias), str(prefix))
            return tuple(layer for writer in writers.values() if (layer := writer.finish()) is not None)
    except OSError as error:
        raise BuildError(f"The layers can't be written: {error}. An admin has to look at the disk.") from error


def _write(entry: Entry, writer: "_LayerWriter") -> None:
    place = f"{writer.prefix}/{entry.path}"
    if entry.kind is Kind.LINK:
        writer.add_link(place, entry.target)
    elif entry.content is not None:
        writer.add_file(place, entry)
    elif writer.part is Part.REST:
        writer.add_folder(
            place
        )  # here all of them, so that empty ones are kept; elsewhere those with something in them


def _distributions(tree: Path) -> Iterator[Distribution]:
    """What the .dist-info folders say. One whose RECORD is missing or of another kind has its files in the rest."""
    left = _LARGEST_RECORDS
    with _readable():
        for below, inner, others, descriptor in folders.walk(tree):
            depth = below.count("/") + 1 if below else 0
            inner[:] = [name for name in inner if _may_hold_records(depth, name)]
            if depth == 4 and "RECORD" in others:
                with open_file("RECORD", descriptor) as file:
                    record = file.read(_LARGEST_RECORD + 1)
                left -= len(record)
                if len(record) > _LARGEST_RECORD or left < 0:
                    raise UnsafeTreeError(f"{shown(below)} lists too many files. Remove the package.")
                yield parse_record(below, record)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnsafeTreeError(f"The list of a package's files can't be read: {error}. Remove the package.") from error


def _may_hold_records(depth: int, name: str) -> bool:
    """lib/pythonX.Y/site-packages/NAME-VERSION.dist-info, from the tree's top on."""
    return (
        (depth == 0 and name == "lib")
        or (depth == 1 and name.startswith("python3"))
        or (depth == 2 and name == "site-packages")
        or (depth == 3 and name.endswith(".dist-info"))
    )


class _LayerWriter:
    """One layer on its way to the disk. Use as a context; what is not finished is removed."""

    def __init__(self, part: Part, into: Path, prefix: PurePosixPath) -> None:
        self.part = part
        self.prefix = prefix
        self._path = into / f"{part.value}.tar.zst"
        self._folders = {""}  # the image's root is there
        self._archive = PackedTar(self._path)

    def __enter__(self) -> Self:
        self._archive.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._archive.__exit__(kind, error, at)

    def add_folder(self, place: str) -> None:
        """Once, by its absolute path; those that it lies in come before it."""
        missing = []
        while place not in self._folders:
            missing.append(place)
            place = place.rpartition("/")[0]
        for folder in reversed(missing):
            self._folders.add(folder)
            self._archive.add(_member(folder, tarfile.DIRTYPE, executable=True))

    def add_link(self, place: str, target: str) -> None:
        self.add_folder(place.rpartition("/")[0])
        self._archive.add(_member(place, tarfile.SYMTYPE, target=target, executable=True))

    def add_file(self, place: str, entry: Entry) -> None:
        assert entry.content is not None
        self.add_folder(place.rpartition("/")[0])
        member = _member(place, tarfile.REGTYPE, size=entry.size, executable=entry.executable)
        try:
            self._archive.add(member, entry.content)
        except ShortError:
            raise UnsafeTreeError(
                f"{shown(entry.path)} changed while it was read. Build the environment again."
            ) from None

    def finish(self) -> Layer | None:
        """The layer; None when nothing lies in it."""
        packed = self._archive.finish()
        if packed is None:
            return None
        return Layer(
            part=self.part, media_type=LAYER_ZSTD, digest=packed.digest, size=packed.size, diff_id=packed.diff_id,
            unpacked=packed.unpacked, entries=packed.entries, path=self._path,
        )  # fmt: skip


def _member(place: str, kind: bytes, *, executable: bool, size: int = 0, target: str = "") -> tarfile.TarInfo:
    """Owner root, time 0."""
    member = tarfile.TarInfo(place.removeprefix("/"))
    member.type, member.size, member.linkname = kind, size, target
    member.mode = 0o777 if kind == tarfile.SYMTYPE else 0o755 if executable else 0o644
    return member
