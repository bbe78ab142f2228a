"""The portal's browser sessions: a random cookie, its hash in the store, the user's hub token sealed beside it."""

import secrets
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from moorage_service.errors import Forbidden
from moorage_service.identity.keys import KeyFile
from moorage_service.identity.tokens import hashed
from moorage_service.settings import Settings
from moorage_service.store.tables import SessionRow, TicketRow

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def create(session: Session, *, user_id: str, sealed_token: bytes, now: datetime, lasts_s: float) -> str:
    """Returns the cookie's value. Sessions that have expired are forgotten."""
    cookie = secrets.token_urlsafe(32)
    session.add(
        SessionRow(
            hash=hashed(cookie), user_id=user_id, hub_token=sealed_token, expires_at=now + timedelta(seconds=lasts_s)
        )
    )
    session.execute(delete(SessionRow).where(SessionRow.expires_at < now))
    return cookie


def find(session: Session, session_hash: str, *, now: datetime) -> SessionRow | None:
    row = session.scalar(select(SessionRow).where(SessionRow.hash == session_hash))
    return row if row is not None and row.expires_at > now else None


def end(session: Session, cookie: str) -> None:
    session.execute(delete(SessionRow).where(SessionRow.hash == hashed(cookie)))


def end_all(session: Session, user_id: str) -> int:
    """Every session of the user, and what was opened with them; returns how many sessions there were."""
    session.execute(delete(TicketRow).where(TicketRow.user_id == user_id))
    result = session.execute(delete(SessionRow).where(SessionRow.user_id == user_id))
    assert isinstance(result, CursorResult)
    return result.rowcount


def refuse_cross_site(request: HTTPConnection, settings: Settings) -> None:
    """A change, or a websocket, must come from a page of the portal's own. Pages of others may lead a person here, no more."""
    ours = request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")  # older browsers don't say
    if request.scope.get("method") in SAFE:  # a websocket has no method
        refused = not ours and request.headers.get("sec-fetch-mode") != "navigate"
    else:
        refused = not ours or not settings.addresses.is_own(request.headers.get("origin", ""))
    if refused:
        raise Forbidden(
            "This request came from another site's page, so it was not carried out. Use the portal's own page."
        )


def spawner_tokens(settings: Settings) -> tuple[str, ...]:
    """What the hub proves itself by: the one in use, then any that a rotation has not ended yet."""
    return tuple(key.decode() for key in _key_file(settings.secrets / "hub-to-service").read())


def spawner_token(settings: Settings) -> str:
    return spawner_tokens(settings)[0]


@cache
def _key_file(path: Path) -> KeyFile:
    return KeyFile(path, lambda: secrets.token_urlsafe(32).encode())
