"""A project's files in a user's home: put there once, by a child that runs as the user."""

import asyncio
import os
from pathlib import Path
from typing import Any

from moorage_spawners import unpack
from moorage_spawners.launch import Identity

TIMEOUT_S = 120.0
PROGRAM = Path(unpack.__file__).read_text()  # passed as text: a user's uid need not be able to read our files


class CopyFailed(Exception):
    """The project's files could not be put into the home; the text is a sentence."""


async def prepare_home(python: str, identity: Identity, folder: str, archive: str | None, also: list[str]) -> None:
    """Unpacks `archive` (a tar, or None for an empty project) into `folder`, unless that is there already; makes `also`.

    `python` is an interpreter that the user's uid can read. The parent opens the archive, the child writes as the user.
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
        child.kill()
        await child.wait()
        raise CopyFailed(f"Copying the project's files into your home took longer than {TIMEOUT_S:.0f} s.") from None
    if child.returncode != 0:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise CopyFailed(f"The project's files could not be copied into your home ({last or 'no message'}).")
