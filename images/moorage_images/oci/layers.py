"""A tree -> layers: tar archives, compressed, that are the same to the byte for the same content. One pass, onto the disk.

The tree has to be made at `prefix` itself, for programs, pyvenv.cfg and bytecode hold the path; and a path that holds the digest
would make every layer new with each change, so `prefix` is one for all environments, and `alias` leads to it by the digest's name.
Bytecode has to be compiled with PYC_INVALIDATION_MODE=UNCHECKED_HASH: no time of a file outlives this step.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

import zstandard

from moorage import folders
from moorage_images.errors import BuildError, UnsafeTreeError
from moorage_images.oci.image import LAYER_ZSTD
from moorage_images.oci.links import check_home, check_links
from moorage_images.oci.split import Distribution, Part, Split, parse_record
from moorage_images.oci.tree import Entry, Kind, TreeBounds, entries, open_file, read_small, shown

PREFIX = PurePosixPath("/opt/moorage/environment")
_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_LARGEST_SETTINGS = 1 << 20  # bytes of pyvenv.cfg
_LARGEST_RECORD, _LARGEST_RECORDS = 16 << 20, 64 << 20  # bytes of one RECORD, and of all; ray's has some 2 MB
# Level 3, its numbers written out: what a level stands for may change with the library. From one thread on, how many there are
# changes no byte: what is compressed is cut into jobs of one size.
_PARAMETERS = {
    "window_log": 21, "chain_log": 16, "hash_log": 17, "search_log": 1, "min_match": 5, "target_length": 0,
    "strategy": zstandard.STRATEGY_DFAST, "write_content_size": 0, "write_checksum": 1,
    "threads": 2, "job_size": 4 << 20, "overlap_log": 6,
}  # fmt: skip


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
        self._pending = bytearray()
        self._tar, self._packed = hashlib.sha256(), hashlib.sha256()
        self._unpacked, self._entries = 0, 0
        self._compressor = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(**_PARAMETERS)
        ).compressobj()

    def __enter__(self) -> "_LayerWriter":
        self._file = self._path.open("wb")
        self._finished = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if kind is not None or not self._finished:
            self._path.unlink(missing_ok=True)

    def add_folder(self, place: str) -> None:
        """Once, by its absolute path; those that it lies in come before it."""
        missing = []
        while place not in self._folders:
            missing.append(place)
            place = place.rpartition("/")[0]
        for folder in reversed(missing):
            self._folders.add(folder)
            self._header(folder, tarfile.DIRTYPE, executable=True)

    def add_link(self, place: str, target: str) -> None:
        self.add_folder(place.rpartition("/")[0])
        self._header(place, tarfile.SYMTYPE, target=target, executable=True)

    def add_file(self, place: str, entry: Entry) -> None:
        assert entry.content is not None
        self.add_folder(place.rpartition("/")[0])
        self._header(place, tarfile.REGTYPE, size=entry.size, executable=entry.executable)
        self._copy(entry.content, entry.size, entry.path)
        self._feed(b"\0" * (-entry.size % _BLOCK))

    def finish(self) -> Layer | None:
        """The layer; None when nothing lies in it."""
        if not self._entries:
            return None
        self._feed(b"\0" * (2 * _BLOCK))
        self._compress(self._pending)
        self._write_packed(self._compressor.flush())
        self._file.flush()
        self._finished = True
        return Layer(
            part=self.part, media_type=LAYER_ZSTD, digest=f"sha256:{self._packed.hexdigest()}", size=self._file.tell(),
            diff_id=f"sha256:{self._tar.hexdigest()}", unpacked=self._unpacked, entries=self._entries, path=self._path,
        )  # fmt: skip

    def _header(self, place: str, kind: bytes, *, executable: bool, size: int = 0, target: str = "") -> None:
        """The GNU form: names are bytes there, UTF-8 or not. Owner root, time 0."""
        member = tarfile.TarInfo(place.removeprefix("/"))
        member.type, member.size, member.linkname = kind, size, target
        member.mode = 0o777 if kind == tarfile.SYMTYPE else 0o755 if executable else 0o644
        self._entries += 1
        self._feed(member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))

    def _copy(self, content: BinaryIO, size: int, path: str) -> None:
        left = size
        while left:
            chunk = content.read(min(left, _CHUNK))
            if not chunk:
                break
            left -= len(chunk)
            self._feed(chunk)
        if left or content.read(1):
            raise UnsafeTreeError(f"{shown(path)} changed while it was read. Build the environment again.")

    def _feed(self, content: bytes) -> None:
        """In pieces of one length, whatever the reads were."""
        self._pending += content
        while len(self._pending) >= _CHUNK:
            self._compress(self._pending[:_CHUNK])
            del self._pending[:_CHUNK]

    def _compress(self, content: bytes | bytearray) -> None:
        self._tar.update(content)
        self._unpacked += len(content)
        self._write_packed(self._compressor.compress(bytes(content)))

    def _write_packed(self, content: bytes) -> None:
        self._packed.update(content)
        self._file.write(content)
