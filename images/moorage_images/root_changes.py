"""What changed below the root of an image while something ran in it, as a tar archive in the form of an image's layer.

Times and owners stay as they are. What a layer has no room for is left out: sockets, pipes, devices, extended attributes.
"""

import os
import stat
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

Look = dict[str, tuple[int, ...]]  # path below the root -> what shows that it was changed

# Not the image's, but the container's or this build's; and Moorage's own programs, which nothing here may change.
LEFT_OUT = frozenset({
    "dev", "proc", "run", "sys", "tmp", "var/tmp", "opt/moorage",
    "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id",
})  # fmt: skip
# Of these the folders alone: logs, and what apt fetched or can make again.
FOLDERS_ALONE = ("var/log/", "var/cache/apt/", "var/lib/apt/lists/", "var/cache/ldconfig/")
_MOUNTS = Path("/proc/self/mountinfo")
_ALWAYS = "var"  # so that a layer is never empty, where all was there already


def mounted() -> frozenset[str]:
    """Places below our root where something else is mounted."""
    lines = (line.split() for line in _MOUNTS.read_text().splitlines())
    places = {line[4].encode().decode("unicode_escape") for line in lines}  # "\\040" for a blank
    return frozenset(place.removeprefix("/") for place in places if place != "/")


def look(root: Path, left_out: Collection[str]) -> Look:
    """Everything below `root`, following no link. A folder shows by its mode and owners, anything else by its times, too."""
    found: Look = {}
    for path, seen in _walk(root, "", left_out):
        mark: tuple[int, ...] = (seen.st_mode, seen.st_uid, seen.st_gid)
        if not stat.S_ISDIR(seen.st_mode):
            if path.startswith(FOLDERS_ALONE):
                continue
            mark += (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        found[path] = mark
    return found


def write(root: Path, before: Look, after: Look, into: BinaryIO) -> int:
    """What is in `after` and was not so in `before`, with the folders it lies in, and what is gone, as whiteouts. How many entries."""
    changed = {path for path, mark in after.items() if before.get(path) != mark} | ({_ALWAYS} & set(after))
    with_folders = changed | {above for path in changed for above in _above(path)}
    count = 0
    with tarfile.open(fileobj=into, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(with_folders):
            count += _add(tar, root / path, path)
        for path in sorted(set(before) - set(after)):
            above = str(PurePosixPath(path).parent)
            if above == "." or (above in after and stat.S_ISDIR(after[above][0])):  # else it went with its folder
                name = PurePosixPath(path).with_name(f".wh.{PurePosixPath(path).name}")
                tar.addfile(tarfile.TarInfo(str(name)))
                count += 1
    return count


def _walk(root: Path, below: str, left_out: Collection[str]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(root / below) as listed:
            entries = sorted(listed, key=lambda each: each.name)
    except FileNotFoundError:  # gone meanwhile
        return
    for each in entries:
        path = f"{below}/{each.name}" if below else each.name
        if path in left_out:
            continue
        try:
            seen = each.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield path, seen
        if stat.S_ISDIR(seen.st_mode):
            yield from _walk(root, path, left_out)


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _add(tar: tarfile.TarFile, place: Path, path: str) -> int:
    member = tar.gettarinfo(place, path)  # a second name of a file becomes a link; None for a socket
    if member is None or member.ischr() or member.isblk() or member.isfifo():
        return 0
    member.uname = member.gname = ""
    if not member.isreg():
        tar.addfile(member)
        return 1
    with place.open("rb") as content:
        tar.addfile(member, content)
    return 1
