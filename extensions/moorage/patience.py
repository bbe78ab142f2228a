"""A hub that is away says nothing about a session: a notebook server goes on by what it said last.

Jupyter asks the hub about each session again and again, and answers 500 while the hub restarts. Loaded by the notebook server only.
"""

import hashlib
import time
from typing import Any

from tornado.web import HTTPError

LASTS_S = 3600.0  # of the last answer
MOST = 1000  # sessions that are remembered


def make_patient(auth: Any) -> None:
    """From now on `auth`, a jupyterhub.services.auth.HubOAuth, holds to the last good answer while the hub does not answer."""
    ask = auth.user_for_token
    known: dict[str, tuple[float, Any]] = {}

    def user_for_token(token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True) -> Any:
        if sync:
            return ask(token, use_cache, session_id, sync=True)
        return asked(token, use_cache, session_id)

    async def asked(token: str, use_cache: bool, session_id: str) -> Any:
        key = hashlib.sha256(f"{session_id} {token}".encode()).hexdigest()
        try:
            user = await ask(token, use_cache, session_id, sync=False)
        except HTTPError:
            at, user = known.get(key, (0.0, None))
            if user is None or time.monotonic() - at > LASTS_S:
                raise
            return user
        known.pop(key, None)
        if user is not None:
            if len(known) >= MOST:
                known.pop(next(iter(known)))  # the oldest
            known[key] = (time.monotonic(), user)
        return user

    auth.user_for_token = user_for_token
