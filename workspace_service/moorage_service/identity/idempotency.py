"""Creates that may be repeated: the caller's `Idempotency-Key` finds what the first request made."""

from datetime import timedelta
from typing import Annotated

from fastapi import Header
from sqlalchemy import delete
from sqlalchemy.orm import Session

from moorage_service.clock import Clock
from moorage_service.store.locks import lock
from moorage_service.store.tables import IdempotencyRow

KEPT = timedelta(days=7)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


def recall(session: Session, *, user_id: str, action: str, key: str | None) -> str | None:
    """The id that this key made before, in the write transaction in which it would be made now.

    Call it first in the transaction, with a key or without: a user's creates wait for each other, so that names stay theirs
    alone and the same request that comes twice at once makes one thing.
    """
    lock(session, [f"creates:{user_id}"])
    if key is None:
        return None
    row = session.get(IdempotencyRow, (user_id, action, key))
    return None if row is None else row.result


def remember(session: Session, *, user_id: str, action: str, key: str | None, result: str, clock: Clock) -> None:
    """Notes what the key made, and forgets the user's keys of long ago: nobody repeats a request for days."""
    if key is None:
        return
    now = clock()
    session.execute(
        delete(IdempotencyRow).where(IdempotencyRow.user_id == user_id, IdempotencyRow.created_at < now - KEPT)
    )
    session.add(IdempotencyRow(user_id=user_id, action=action, key=key, result=result, created_at=now))
