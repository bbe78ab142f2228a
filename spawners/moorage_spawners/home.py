"""A project's files in a user's home: put there once, by a child that runs as the user. We ourselves open nothing in a home."""

import asyncio
import contextlib
import os
import stat
from pathlib import Path
from typing import Any

from moorage.notebook import unpack
from moorage_spawners.launch import Identity

TIMEOUT_S = 120.0
PROGRAM = Path(unpack.__file__).read_text()  # passed as text: a user's uid need not be able to read our files


class CopyFailed(Exception):
    """The project's files could not be put into the home, or the server has no folder of its own; the text is a sentence."""


async def prepare_home(
    python: str, identity: Identity, folder: str, archive: str | None, also: list[str]
) -> str | None:
    """Unpacks `archive` (a tar, or None for an empty project) into `folder`, unless that is there already; makes `also`.

    `python` is an interpreter that the user's uid can read. The parent opens the archive, the child writes as the user.
    Returns what hinders writing in the home, in words, where the server can start all the same. Raises CopyFailed.
    """
    options: dict[str, Any] = {}
    if identity.uid is not None:
        options = {"user": identity.uid, "group": identity.gid, "extra_groups": []}
    stdin = os.open(archive or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        child = await asyncio.create_subprocess_exec(
            python, "-I", "-S", "-c", PROGRAM, folder, *also, stdin=stdin, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, cwd="/", env={"PATH": os.defpath}, umask=0o077, **options,
        )  # fmt: skip
    finally:
        os.close(stdin)
    try:
        _, errors = await asyncio.wait_for(child.communicate(), TIMEOUT_S)
    except TimeoutError:
        raise CopyFailed(f"Copying the project's files into your home took longer than {TIMEOUT_S:.0f} s.") from None
    finally:
        if child.returncode is None:  # late, or nobody waits for the start any more
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    if child.returncode != 0:
        raise CopyFailed(unpack.not_copied(last))
    return unpack.not_writable(last) if last else None


def runtime_folder(state: Path, workload_id: str, identity: Identity) -> Path:
    """A folder of the server's own, outside of the home: it runs though the home is full, or full of odd things.

    Made here, 0700, and given to the user through a descriptor. Removed with the workload. Raises CopyFailed.
    """
    folder = state / "scratch" / workload_id
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if identity.uid is not None and identity.gid is not None:
                os.fchown(opened, identity.uid, identity.gid)
            os.fchmod(opened, stat.S_IRWXU)
        finally:
            os.close(opened)
    except OSError as error:
        raise CopyFailed(
            f"There is no room for the notebook server's own files ({error.strerror}). Ask an admin."
        ) from error
    return folder
