"""Homes of users on one machine: made, mended and judged without ever following what a user may have put in the way.

The folder that holds all homes is ours alone, so what stands at a home's own place was put there by us or by an admin. Below it nothing
is opened here: whatever is to happen there is done by a process of the user.
"""

import contextlib
import os
import stat
from pathlib import Path

from moorage_service.errors import Conflict
from moorage_service.identity.users import gid_of, home_of
from moorage_service.recovery import owners
from moorage_service.settings import Settings
from moorage_service.store.tables import UserRow

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OWNERS = 0o700


class HomeUnusable(Conflict):
    """The text says what is wrong with the home, and what an admin can do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="home_unusable")


def ensure_home(settings: Settings, user: UserRow) -> Path:
    """The user's home: there, a folder of theirs that they can read, write and enter. Made if need be, 0700. Raises HomeUnusable."""
    home, gid = home_of(settings, user), gid_of(user)
    try:
        home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _ensure(home, user.uid, gid)
    except OSError as error:
        raise HomeUnusable(f"Your home folder {home} can't be made ready ({error.strerror}). Ask an admin.") from error
    owners.keep(settings.state, user)
    return home


def _ensure(home: Path, uid: int | None, gid: int | None) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(home, OWNERS)
    seen = os.lstat(home)
    if stat.S_ISLNK(seen.st_mode):
        _accept_link(home, uid)
        return
    if not stat.S_ISDIR(seen.st_mode):
        raise HomeUnusable(
            f"Where your home folder should be ({home}) is something else. An admin has to move it away."
        )
    folder = os.open(home, _OPEN)
    try:
        found = os.fstat(folder)
        # Not only when it was just made: an earlier start may have been cut off between the two.
        if uid is not None and gid is not None and found.st_uid == 0:
            os.fchown(folder, uid, gid)
        else:
            _refuse_others(home, found.st_uid, uid)
        if found.st_mode & OWNERS != OWNERS:  # its owner could not mend it without a notebook
            os.fchmod(folder, stat.S_IMODE(found.st_mode) | OWNERS)
    finally:
        os.close(folder)


def _accept_link(home: Path, uid: int | None) -> None:
    """An admin may keep a home elsewhere. What it leads to is theirs to prepare: nothing there changes its owner by us."""
    try:
        seen = os.stat(home)
    except OSError as error:
        target = os.readlink(home)
        raise HomeUnusable(
            f"Your home folder is kept at {target}, which can't be reached ({error.strerror}). Ask an admin."
        ) from error
    if not stat.S_ISDIR(seen.st_mode):
        raise HomeUnusable(f"Your home folder is kept at {os.readlink(home)}, which is no folder. Ask an admin.")
    _refuse_others(home, seen.st_uid, uid)


def _refuse_others(home: Path, owner: int, uid: int | None) -> None:
    mine = os.geteuid() if uid is None else uid
    if owner != mine:
        raise HomeUnusable(
            f"Your home folder {home} belongs to uid {owner}, not to yours ({mine}). An admin gives it back with: "
            f"chown -R {mine} {home}"
        )
