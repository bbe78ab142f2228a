"""Source snapshots: the notebook of a job version and the files beside it, content-addressed over fsspec.

A snapshot's digest covers paths and contents and nothing else, so the same source has the same digest wherever and
whenever it was taken. Below the root lie `blobs/<sha256>` and `trees/<digest>.json`; both are immutable once there.
"""

import base64
import binascii
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import fsspec

from moorage.wire.jobs import SnapshotFile
from moorage_jobs.errors import SnapshotMissingError, SourceError

MAX_FILES = 200
MAX_FILE_BYTES = 10 * 2**20
MAX_TOTAL_BYTES = 25 * 2**20
MAX_DEPTH = 8


def decode(files: list[SnapshotFile]) -> dict[str, bytes]:
    """The files of a request, by path; raises SourceError on an unsafe path, a bad encoding or too much."""
    if len(files) > MAX_FILES:
        raise SourceError(
            f"files: {len(files)} files are more than the {MAX_FILES} that a snapshot may hold.", field="files"
        )
    found: dict[str, bytes] = {}
    for file in files:
        path = checked_path(file.path)
        if path in found:
            raise SourceError(f"files: '{path}' is given twice.", field="files")
        try:
            found[path] = base64.b64decode(file.content, validate=True)
        except (binascii.Error, ValueError):
            raise SourceError(f"files: the content of '{path}' is not base64.", field="files") from None
    check(found)
    return found


def checked_path(path: str) -> str:
    """The path if it is safe: relative, with '/', staying below the notebook's folder, of printable characters."""
    parts = path.split("/")
    wrong = (
        not path
        or "\\" in path
        or not path.isprintable()
        or path.startswith("~")
        or any(part in {"", ".", ".."} or len(part.encode()) > 255 for part in parts)
        or len(parts) > MAX_DEPTH
    )
    if wrong:
        raise SourceError(
            f"files: '{path[:200]}' is no path for a snapshot. Give one below the notebook's folder, such as "
            f"'helper.py' or "
            f"'data/cities.csv', at most {MAX_DEPTH} folders deep.",
            field="files",
        )
    return str(PurePosixPath(path))


def check(files: Mapping[str, bytes]) -> None:
    """Raises SourceError if the files are too many or too large, or one stands where another needs a folder."""
    if not files:
        raise SourceError("files: a snapshot needs at least the notebook.", field="files")
    if len(files) > MAX_FILES:
        raise SourceError(
            f"files: {len(files)} files are more than the {MAX_FILES} that a snapshot may hold.", field="files"
        )
    for path, content in files.items():
        checked_path(path)
        if len(content) > MAX_FILE_BYTES:
            raise SourceError(
                f"files: '{path}' has {len(content)} bytes; a file of a snapshot may have {MAX_FILE_BYTES}. Keep data "
                f"outside the "
                "snapshot, and read it from where it lives.",
                field="files",
            )
        for folder in PurePosixPath(path).parents:
            if str(folder) in files:
                raise SourceError(f"files: '{folder}' is both a file and the folder of '{path}'.", field="files")
    total = sum(len(content) for content in files.values())
    if total > MAX_TOTAL_BYTES:
        raise SourceError(
            f"files: {total} bytes in all are more than the {MAX_TOTAL_BYTES} that a snapshot may hold. Leave data "
            f"out of it.",
            field="files",
        )


def digest(files: Mapping[str, bytes]) -> str:
    """The SHA-256 (hex) over the sorted paths and the digests of their contents."""
    return hashlib.sha256(_tree(files)).hexdigest()


def _tree(files: Mapping[str, bytes]) -> bytes:
    entries = [[path, hashlib.sha256(files[path]).hexdigest(), len(files[path])] for path in sorted(files)]
    return json.dumps({"format": 1, "files": entries}, ensure_ascii=True, separators=(",", ":")).encode()


class SnapshotStore:
    """Snapshots below one folder or object-store prefix (any fsspec address). Safe to use from several threads and
    processes.
    """

    def __init__(self, root: str | Path) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(str(root))
        self._local = "file" in self._fs.protocol

    def put(self, files: Mapping[str, bytes]) -> str:
        """Keeps the files and returns the digest. The same files again cost a look only."""
        check(files)
        for content in files.values():
            self._write(f"blobs/{hashlib.sha256(content).hexdigest()}", content)
        name = digest(files)
        self._write(f"trees/{name}.json", _tree(files))  # last: a tree that exists is whole
        return name

    def has(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(f"trees/{_checked_digest(name)}.json")))

    def get(self, name: str) -> dict[str, bytes]:
        """The files of a snapshot by path; raises SnapshotMissingError if it is not there, or not whole and
        unaltered.
        """
        try:
            tree = self._fs.cat_file(self._path(f"trees/{_checked_digest(name)}.json"))
            files = {
                path: self._fs.cat_file(self._path(f"blobs/{blob}")) for path, blob, _ in json.loads(tree)["files"]
            }
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise SnapshotMissingError(
                f"The source snapshot {name[:12]} is not in the store. Promote the notebook again."
            ) from error
        if digest(files) != name:
            raise SnapshotMissingError(
                f"The source snapshot {name[:12]} was altered in the store. Promote the notebook again."
            )
        return files

    def _path(self, relative: str) -> str:
        return f"{self._root}/{relative}"

    def _write(self, relative: str, content: bytes) -> None:
        target = self._path(relative)
        if self._fs.exists(target):
            return
        if not self._local:
            self._fs.pipe_file(target, content)  # object stores show an object whole or not at all
            return
        folder = Path(target).parent
        Path(self._root).mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        temporary = folder / f".{secrets.token_hex(8)}"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _checked_digest(name: str) -> str:
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise SnapshotMissingError(f"'{name[:80]}' is no digest of a source snapshot.")
    return name


def unpack(files: Mapping[str, bytes], folder: Path, *, uid: int | None = None, gid: int | None = None) -> None:
    """Writes the files below `folder`, a new folder of mode 0700, owned in the end by uid and gid if these are given.

    The folder changes hands last, so its future owner can plant nothing while it is filled. Raises FileExistsError if
    it is there.
    """
    check(files)
    folder.mkdir(mode=0o700)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.write_bytes(content)
        target.chmod(0o600)
    if uid is None:
        return
    owner_group = -1 if gid is None else gid
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.chown(os.path.join(parent, name), uid, owner_group, follow_symlinks=False)
        os.chown(parent, uid, owner_group, follow_symlinks=False)
