"""Whose each home is: a card per user beside the homes, so that a lost store gives nobody an empty home in place of their own.

`homes/.owners/<user id>/user.json`, 0600 below a folder of 0700. A home is made for a user's first workload, and its card with it. On
Kubernetes the home is a volume in the user's namespace, whose name the card has.
"""

import logging
from datetime import datetime
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from moorage_service.recovery.rows import to_json, to_values
from moorage_service.store.locks import lock
from moorage_service.store.tables import AuditRow, UserRow
from moorage_spawners.launch.cards import Cards

NAME = "user"
ACTOR = "moorage"

log = logging.getLogger(__name__)


def _cards(state: Path) -> Cards:
    return Cards(state / "homes" / ".owners")


def keep(state: Path, user: UserRow) -> None:
    """Writes the card of a user who has a home. A disk that does not take it hinders nobody: the next start writes it again."""
    if user.namespace is None and not (state / "homes" / user.id).exists():
        return
    try:
        _cards(state).keep(user.id, NAME, to_json(user))
    except OSError as error:
        log.warning("whose the home %s is can't be written down: %s", user.id, error)


def is_at_home(state: Path, user: UserRow, namespace: str) -> bool:
    """Whether the user's card says that their home is in that namespace."""
    card = _cards(state).read(user.id, NAME)
    return card is not None and card.get("namespace") == namespace


def know_again(session: Session, state: Path, *, now: datetime, hub_name: str | None = None) -> None:
    """Users who have a home and are not in the store, in the caller's write transaction; `hub_name`: only whom the hub calls so.

    A name, a uid or a namespace that is another's now stays theirs, and the home is left to an admin.
    """
    lock(session, ["users"])
    holder, known = _cards(state), set(session.scalars(select(UserRow.id)))
    for user_id in holder.workload_ids():
        card = None if user_id in known else holder.read(user_id, NAME)
        if card is None or hub_name not in (None, card.get("hub_name")):
            continue
        try:
            user = UserRow(**to_values(UserRow, card))
            own = {UserRow.hub_name: user.hub_name, UserRow.uid: user.uid, UserRow.namespace: user.namespace}
            same = or_(*(column == value for column, value in own.items() if value is not None))
            taken = select(UserRow.id).where(same)
        except (TypeError, ValueError) as error:
            log.error("whose the home %s is can't be read: %s", user_id, error)
            continue
        if session.scalar(taken.limit(1)) is not None:
            log.error("the home %s is %s's, but that name, uid or namespace has been given to another", user_id, user.hub_name)
            continue
        session.add(user)
        session.flush()
        why = f"{user.hub_name} has a home here and was not in the store: they are known again, with their id and uid."
        session.add(AuditRow(at=now, actor=ACTOR, action="user.known_again", target=user.hub_name, why=why))
        log.warning("%s", why)


def keep_all(session: Session, state: Path) -> None:
    for user in session.scalars(select(UserRow)):
        keep(state, user)
