"""What is open at a notebook server closes when the session by which it was opened has ended.

Jupyter asks who opens a websocket, and never again: without this, a kernel or a terminal stays open in a browser that was signed out.
Loaded by the notebook server only.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from tornado.httpclient import HTTPError as FetchError
from tornado.ioloop import PeriodicCallback
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler
from traitlets import Float
from traitlets.config import LoggingConfigurable

POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1

log = logging.getLogger(__name__)


class OpenSockets(LoggingConfigurable):
    """Asks the hub every `check_s` about each session that has something open. A hub that does not answer closes nothing."""

    check_s = Float(60.0, help="Seconds between two looks.").tag(config=True)

    def __init__(self, auth: Any, **given: Any) -> None:
        """`auth`: a jupyterhub.services.auth.HubOAuth."""
        super().__init__(**given)
        self._auth = auth
        self._open: WeakSet[WebSocketHandler] = WeakSet()
        self._looks = PeriodicCallback(self.look, self.check_s * 1000)

    def start(self) -> None:
        _tell_of_each(self.note)
        self._looks.start()

    def note(self, handler: WebSocketHandler) -> None:
        """It is being opened, and is forgotten when it has been closed."""
        self._open.add(handler)

    async def look(self) -> None:
        """Closes what nobody has a session for any more."""
        sessions: dict[tuple[str, str], list[WebSocketHandler]] = {}
        for handler in self._open:
            if handler.ws_connection is not None:
                key = (self._auth.get_token(handler) or "", self._auth.get_session_id(handler))
                sessions.setdefault(key, []).append(handler)
        for (token, session_id), handlers in sessions.items():
            if await self._has_ended(token, session_id):
                self._auth.cache.clear()
                for handler in handlers:
                    log.info("closing a websocket whose session has ended: %s", handler.request.path)
                    handler.close(POLICY_VIOLATION, "Your session has ended. Sign in again.")

    async def _has_ended(self, token: str, session_id: str) -> bool:
        if not token:  # its cookie is too old, or it came by no credential of the hub's
            return True
        try:
            user = await self._auth.user_for_token(token, False, session_id, sync=False)
        except (HTTPError, FetchError, OSError):
            return False
        # A right to somebody else's server may have ended, too: an admin's.
        return user is None or not self._auth.check_scopes(self._auth.access_scopes, user)


def _tell_of_each(note: Callable[[WebSocketHandler], None]) -> None:
    """Calls `note` with each websocket that is opened from now on. Tornado keeps no list, but each passes `get`, whoever serves it."""
    get = WebSocketHandler.get

    @functools.wraps(get)
    async def noted(handler: WebSocketHandler, *args: Any, **given: Any) -> None:
        note(handler)
        await get(handler, *args, **given)

    WebSocketHandler.get = noted  # type: ignore[assignment, method-assign]
