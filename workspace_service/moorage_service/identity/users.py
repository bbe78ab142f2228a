"""Users: rows of ours, found by the hub's name; uids and homes on one machine."""

import os
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moorage.wire import User
from moorage_service.clock import Clock
from moorage_service.errors import Conflict, Forbidden, NotFound
from moorage_service.settings import Settings
from moorage_service.store.tables import UserRow
from moorage_spawners.launch import Identity


def ensure_user(
    session: Session, settings: Settings, *, name: str, admin: bool, groups: tuple[str, ...], clock: Clock
) -> UserRow:
    """The user whom the hub calls `name`, made at first sight; admin and groups follow the hub.

    Raises Forbidden when the service is not root and already serves somebody else: everything would run under one uid.
    """
    user = session.scalar(select(UserRow).where(UserRow.hub_name == name))
    if user is None:
        uid = None
        if os.geteuid() == 0:
            uid = _next_uid(session, settings)
        else:
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


def _next_uid(session: Session, settings: Settings) -> int:
    highest = session.scalar(
        select(func.max(UserRow.uid)).where(
            UserRow.uid >= settings.uid_first, UserRow.uid < settings.uid_first + settings.uid_count
        )
    )
    uid = settings.uid_first if highest is None else highest + 1
    if uid >= settings.uid_first + settings.uid_count:
        raise Conflict(
            f"All {settings.uid_count} uids from {settings.uid_first} are taken. Raise `uid_count` in settings.yaml."
        )
    return uid


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
    return Identity(uid=user.uid, gid=user.uid, home=str(home_of(settings, user)))


def ensure_home(settings: Settings, user: UserRow) -> Path:
    """Makes the user's home, 0700 and theirs. The service never opens a path below it."""
    home = home_of(settings, user)
    made = not home.exists()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if made and user.uid is not None:
        os.chown(home, user.uid, user.uid)
    return home
