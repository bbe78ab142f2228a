"""Reads a tar archive that a stranger may have made, within the time and memory that its length allows.

Not by tarfile alone: Python 3.11's goes back for a size below zero, and so for ever, takes a whole extended header for a name without
end, once for each two of its bytes, and calls itself for each header that describes the next. Its decoder of a single block is sound.
"""

import tarfile
from collections.abc import Iterator

from moorage_service.errors import BadRequest, TooLarge

MOST_MEMBERS = 4000  # folders, too
LONGEST_HEADER = 1 << 20  # bytes of an extended one; what any tar writes by itself has some hundred
_BLOCK = tarfile.BLOCKSIZE
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_DESCRIBES = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_SPARSE = "sparse"


def members(archive: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Each member with its content, in order; a link or a folder has none. Uncompressed archives alone.

    Raises tarfile.TarError or ValueError for what is none, BadRequest for a sparse file, TooLarge for too many members.
    """
    if not archive:
        raise tarfile.ReadError("it is empty")
    offset, count = 0, 0
    told: dict[str, str] = {}  # by extended headers, of the member that follows
    while any(block := archive[offset : offset + _BLOCK]):
        count += 1
        if count > 2 * MOST_MEMBERS:  # a member may have its extended header
            raise TooLarge(
                f"The archive has more than {MOST_MEMBERS} members. Keep data outside of the project's files."
            )
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        describes = member.type in _DESCRIBES
        size = member.size if describes else int(told.get("size", member.size))
        content = _content(archive, offset + _BLOCK, size) if describes or _has_content(member) else b""
        offset += _BLOCK + -(-len(content) // _BLOCK) * _BLOCK
        if describes:
            told |= _told(member.type, content)
            continue
        member.size, member.name = len(content), told.get("path", member.name).rstrip("/")
        if member.issparse() or _SPARSE in told:
            raise BadRequest(
                f"files: {member.name[:200]!r} is a sparse file. Only plain files are kept: pack it as one.",
                field="files",
            )
        told = {}
        yield member, content


def _has_content(member: tarfile.TarInfo) -> bool:
    return member.isreg() or member.type not in tarfile.SUPPORTED_TYPES


def _content(archive: bytes, start: int, size: int) -> bytes:
    if not 0 <= size <= len(archive) - start:
        raise tarfile.ReadError("a member is cut short, or its size is below zero")
    return archive[start : start + size]


def _told(kind: bytes, content: bytes) -> dict[str, str]:
    if len(content) > LONGEST_HEADER:
        raise tarfile.ReadError(f"a header is longer than {LONGEST_HEADER} bytes")
    if kind in _PAX:
        return _records(content)
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    return {}  # a link is refused whatever it leads to; what holds for all members, as git's note of a commit, is nothing to us


def _records(content: bytes) -> dict[str, str]:
    """Of "LENGTH KEY=VALUE\\n" records those that change what a member is; the length is of the whole record, in bytes."""
    found = {}
    start = 0
    while start < len(content) and content[start]:
        length, space, _ = content[start : start + 20].partition(b" ")
        end = start + (int(length) if length.isdigit() and space else 0)
        if not start + len(length) + 1 < end <= len(content) or content[end - 1 : end] != b"\n":
            raise tarfile.ReadError("an extended header can't be read")
        key, _, value = content[start + len(length) + 1 : end - 1].partition(b"=")
        if key in (b"path", b"size"):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        elif key.startswith(b"GNU.sparse."):
            found[_SPARSE] = ""
        start = end
    return found
