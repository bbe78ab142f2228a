"""A layer's file as it grows: a tar archive, compressed, the same to the byte for the same content and whatever the writes were."""

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import zstandard

_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
# Level 3, its numbers written out: what a level stands for may change with the library. From one thread on, how many there are
# changes no byte: what is compressed is cut into jobs of one size.
_PARAMETERS = {
    "window_log": 21, "chain_log": 16, "hash_log": 17, "search_log": 1, "min_match": 5, "target_length": 0,
    "strategy": zstandard.STRATEGY_DFAST, "write_content_size": 0, "write_checksum": 1,
    "threads": 2, "job_size": 4 << 20, "overlap_log": 6,
}  # fmt: skip


class ShortError(Exception):
    """A file has more or less content than its size says."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """`digest` and `size` are of the compressed file, `diff_id` and `unpacked` of the tar within; sizes in bytes."""

    digest: str
    size: int
    diff_id: str
    unpacked: int
    entries: int


class PackedTar:
    """Use as a context; a file that is not finished is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending = bytearray()
        self._tar, self._packed = hashlib.sha256(), hashlib.sha256()
        self._unpacked, self._entries = 0, 0
        self._compressor = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(**_PARAMETERS)
        ).compressobj()

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._finished = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if kind is not None or not self._finished:
            self._path.unlink(missing_ok=True)

    def add(self, member: tarfile.TarInfo, content: BinaryIO | None = None) -> None:
        """`content`: as many bytes as `member` says, else ShortError. In the GNU form, where names are bytes, UTF-8 or not."""
        self._entries += 1
        self._feed(member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        if content is not None:
            self._copy(content, member.size)
            self._feed(b"\0" * (-member.size % _BLOCK))

    def finish(self) -> Packed | None:
        """None when nothing lies in it."""
        if not self._entries:
            return None
        self._feed(b"\0" * (2 * _BLOCK))
        self._compress(self._pending)
        self._write(self._compressor.flush())
        self._file.flush()
        self._finished = True
        return Packed(
            digest=f"sha256:{self._packed.hexdigest()}", size=self._file.tell(), diff_id=f"sha256:{self._tar.hexdigest()}",
            unpacked=self._unpacked, entries=self._entries,
        )  # fmt: skip

    def _copy(self, content: BinaryIO, size: int) -> None:
        left = size
        while left:
            chunk = content.read(min(left, _CHUNK))
            if not chunk:
                break
            left -= len(chunk)
            self._feed(chunk)
        if left or content.read(1):
            raise ShortError

    def _feed(self, content: bytes) -> None:
        """In pieces of one length."""
        self._pending += content
        while len(self._pending) >= _CHUNK:
            self._compress(self._pending[:_CHUNK])
            del self._pending[:_CHUNK]

    def _compress(self, content: bytes | bytearray) -> None:
        self._tar.update(content)
        self._unpacked += len(content)
        self._write(self._compressor.compress(bytes(content)))

    def _write(self, content: bytes) -> None:
        self._packed.update(content)
        self._file.write(content)
