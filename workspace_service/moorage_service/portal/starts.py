"""Starts under way. The hub answers a start only when the server is up, or after ten seconds, so a page must not wait for it.

Kept in memory: after a restart of the service the notebook's own events tell how the start goes.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from moorage_service.errors import ServiceError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    asked_at: datetime
    answered: bool = False
    failure: str | None = None  # a sentence


class Starts:
    """One per application. At most one start of a user and project is under way at a time."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Start] = {}
        self._lock = threading.Lock()

    def begin(self, user_id: str, slug: str, ask: Callable[[], None], *, now: datetime) -> None:
        """Calls `ask` in a thread of its own and keeps what came of it. One under way already: nothing."""
        key = (user_id, slug)
        with self._lock:
            known = self._known.get(key)
            if known is not None and not known.answered:
                return
            self._known[key] = Start(asked_at=now)
        threading.Thread(target=self._ask, args=(key, ask, now), name=f"start-{slug}", daemon=True).start()

    def find(self, user_id: str, slug: str) -> Start | None:
        with self._lock:
            return self._known.get((user_id, slug))

    def give_up(self, user_id: str, slug: str, begun: Start, failure: str) -> None:
        """What became of a start after the hub had accepted it; of a later one it says nothing."""
        with self._lock:
            if self._known.get((user_id, slug)) == begun:
                self._known[user_id, slug] = replace(begun, failure=failure)

    def _ask(self, key: tuple[str, str], ask: Callable[[], None], now: datetime) -> None:
        failure = None
        try:
            ask()
        except ServiceError as error:
            failure = error.message
        except Exception:
            log.exception("asking the hub to start %s failed", key[1])
            failure = (
                "Something went wrong while asking the hub. Try again; an admin finds the cause in the service's log."
            )
        with self._lock:
            self._known[key] = Start(asked_at=now, answered=True, failure=failure)
