"""Creates that may be repeated: the caller's `Idempotency-Key` finds what the first request made."""

from typing import Annotated

from fastapi import Header
from sqlalchemy.orm import Session

from moorage_service.clock import Clock
from moorage_service.store.tables import IdempotencyRow

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


def recall(session: Session, *, user_id: str, action: str, key: str | None) -> str | None:
    """The id that this key made before, in the write transaction in which it would be made now."""
    if key is None:
        return None
    row = session.get(IdempotencyRow, (user_id, action, key))
    return None if row is None else row.result


def remember(session: Session, *, user_id: str, action: str, key: str | None, result: str, clock: Clock) -> None:
    if key is not None:
        session.add(IdempotencyRow(user_id=user_id, action=action, key=key, result=result, created_at=clock()))
