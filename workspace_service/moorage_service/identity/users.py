"""Users: rows of ours, found by the hub's name; uids and homes on one machine."""

import contextlib
import os
import pwd
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moorage.wire import User
from moorage_service.clock import Clock
from moorage_service.errors import BadRequest, Conflict, Forbidden, NotFound
from moorage_service.identity import sessions
from moorage_service.recovery import owners
from moorage_service.settings import Settings
from moorage_service.store.database import Database
from moorage_service.store.locks import lock
from moorage_service.store.tables import UserRow
from moorage_spawners.launch import Identity

_LONGEST = 200  # characters of a user's name


def sign_in(
    database: Database, settings: Settings, *, name: str, admin: bool, groups: tuple[str, ...], clock: Clock
) -> UserRow:
    """As `ensure_user`, in a transaction of its own, which writes only when something is new: it comes with every request."""
    with database.read() as session:
        user = session.scalar(select(UserRow).where(UserRow.hub_name == name))
    if user is not None and user.active and user.admin == admin and user.groups == sorted(groups):
        return user
    with database.begin() as session:
        return ensure_user(session, settings, name=name, admin=admin, groups=groups, clock=clock)


def ensure_user(
    session: Session, settings: Settings, *, name: str, admin: bool, groups: tuple[str, ...], clock: Clock
) -> UserRow:
    """The user whom the hub calls `name`, made at first sight; admin and groups follow the hub.

    Raises Forbidden when everything runs under one uid, that of a service that is not root, and somebody else is served already.
    """
    user = session.scalar(select(UserRow).where(UserRow.hub_name == name))
    if user is None:
        lock(session, ["users"])
        user = session.scalar(select(UserRow).where(UserRow.hub_name == name))
    if user is None and settings.unknown_workloads == "adopt":
        # Where another service acts, a lost store may be asked before that one has settled it.
        owners.know_again(session, settings.state, now=clock(), hub_name=name)
        user = session.scalar(select(UserRow).where(UserRow.hub_name == name))
    if user is None:
        _refuse_name(name)
        uid = None
        if _has_uids(settings):
            uid = _next_uid(session, settings)
        elif not _keeps_apart(settings):
            other = session.scalar(select(UserRow.hub_name).where(UserRow.active).limit(1))
            if other is not None:
                raise Forbidden(
                    f"This Moorage does not run as root, so every notebook runs under one account, that of {other!r}; a second user "
                    f"({name!r}) could read all of theirs. Start it as root (sudo make up) to serve more than one user.",
                    code="one_user_only",
                )
        user = UserRow(hub_name=name, admin=admin, groups=sorted(groups), uid=uid, created_at=clock())
        session.add(user)
        session.flush()
    if not user.active:
        raise Forbidden(
            f"The user {name!r} is disabled. Ask an admin to enable them on the users page.", code="user_disabled"
        )
    if user.admin != admin or user.groups != sorted(groups):
        user.admin, user.groups = admin, sorted(groups)
    return user


def _refuse_name(name: str) -> None:
    """A name becomes part of paths, of pages and of logs. The hub has its own rule; this one holds whatever that is."""
    if not name.isprintable() or not 0 < len(name) <= _LONGEST or "/" in name or set(unquote(name)) <= {"."}:
        raise Forbidden(
            f"The user name {name[:80]!r} can't be used: it must have 1 to {_LONGEST} printable characters, no slash, and more than "
            "dots. An admin can change which name the sign-in gives.",
            code="user_name",
        )


def _has_uids(settings: Settings) -> bool:
    """Whether each user has a uid of this machine."""
    return settings.platform == "local" and os.geteuid() == 0


def _keeps_apart(settings: Settings) -> bool:
    """Whether what users run can't read one another's: by uids, or in pods of namespaces of their own."""
    return settings.platform == "kubernetes" or _has_uids(settings)


def _next_uid(session: Session, settings: Settings) -> int:
    """One above the highest that was ever allotted: a uid is never given twice, and never one that has an account."""
    end = settings.uid_first + settings.uid_count
    highest = session.scalar(select(func.max(UserRow.uid)).where(UserRow.uid >= settings.uid_first, UserRow.uid < end))
    # A store that was lost or restored does not know all; the homes of those whom it forgot are theirs all the same.
    owners = [owner for owner in _owners_of_homes(settings) if settings.uid_first <= owner < end]
    uid = max([settings.uid_first - 1, highest or 0, *owners]) + 1
    while uid < end and _account(uid) is not None:
        uid += 1
    if uid >= end:
        raise Conflict(
            f"All {settings.uid_count} uids from {settings.uid_first} are taken. An admin can raise `uid_count` in settings.yaml.",
            code="uids_exhausted",
        )
    return uid


def _owners_of_homes(settings: Settings) -> list[int]:
    found = []
    for path in (settings.state / "homes").iterdir():
        with contextlib.suppress(OSError):  # a link that leads nowhere
            found.append(path.stat().st_uid)
    return found


def _account(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def map_uid(session: Session, settings: Settings, user: UserRow, uid: int) -> None:
    """An admin's word that this user is that account of the machine. Raises Conflict or BadRequest with what is in the way."""
    if uid == user.uid:
        return
    if settings.platform == "kubernetes":
        raise Conflict(
            "uid: what users run are pods, in a namespace of each user's own, and no account of a machine.", field="uid"
        )
    if not _has_uids(settings):
        raise Conflict(
            "uid: this Moorage does not run as root, so everything runs under its own account. Start it as root to map users.",
            field="uid",
        )
    account = _account(uid)
    if account is None:
        raise BadRequest(f"uid: this machine has no account with uid {uid}. Make one first (adduser).", field="uid")
    if account.pw_gid == 0:
        raise BadRequest(
            f"uid: the account {account.pw_name} ({uid}) is in the group of root, and no workload runs so. Choose another.",
            field="uid",
        )
    if home_of(settings, user).exists():
        raise Conflict(
            f"uid: {user.hub_name} has a home already, owned by uid {user.uid}. Map a uid before their first notebook.",
            field="uid",
        )
    if session.scalar(select(UserRow).where(UserRow.uid == uid)) is not None:
        raise Conflict(f"uid: {uid} belongs to another user. Choose another.", field="uid")
    user.uid = uid


def set_active(session: Session, settings: Settings, user: UserRow, active: bool, *, now: datetime) -> None:
    """Disabled, a user is signed out of the portal at once; what runs is ended by `identity.disabled`, after a while.

    Raises Conflict when enabling them would make a second user where nothing keeps two apart.
    """
    if active and not user.active and not _keeps_apart(settings):
        other = session.scalar(select(UserRow.hub_name).where(UserRow.active).limit(1))
        if other is not None:
            raise Conflict(
                f"active: this Moorage does not run as root and serves {other!r} already. Disable them first, or start it as root.",
                field="active",
            )
    if active:
        user.disabled_at = None
    elif user.active:
        user.disabled_at = now
        sessions.end_all(session, user.id)
    user.active = active


def user_named(session: Session, name: str) -> UserRow:
    user = session.scalar(select(UserRow).where(UserRow.hub_name == name))
    if user is None:
        raise NotFound(f"There is no user {name!r}. A user exists here after their first sign-in.")
    return user


def to_wire(user: UserRow) -> User:
    return User(
        id=user.id, name=user.hub_name, admin=user.admin, groups=list(user.groups), uid=user.uid, active=user.active
    )


def home_of(settings: Settings, user: UserRow) -> Path:
    # By id, not by name: a recycled name never finds somebody else's files.
    return settings.state / "homes" / user.id


def identity_of(settings: Settings, user: UserRow) -> Identity:
    return Identity(uid=user.uid, gid=gid_of(user), home=str(home_of(settings, user)))


def gid_of(user: UserRow) -> int | None:
    """The account's own group where the uid is an account's; else a group of the uid's number. None: not root."""
    account = None if user.uid is None else _account(user.uid)
    return user.uid if account is None else account.pw_gid
