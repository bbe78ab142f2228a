"""The clock of schedules: a thread that fires what is due, within a second, whether or not anyone is signed in.

It waits by the wall clock, which people and time servers set: a clock that was set forward is noticed within `LONGEST_PAUSE_S`,
and one that was set back at the same time, when schedules that had been advanced too far are brought back.
"""

import logging
import threading
import time

from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.jobs.conclusion import remove_leftovers
from moorage_service.jobs.fires import can_be_read, fire_due, renew
from moorage_service.store.tables import JobRow

log = logging.getLogger(__name__)

NAME = "fire schedules"
LONGEST_PAUSE_S = 15.0  # so that a clock that was set is noticed
SET_BACK_S = 5.0  # more than a time server corrects by in small steps


class ScheduleClock:
    """`start` and `stop` it once. Several may run, in several processes: each fire is one run's all the same."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._offset: float | None = None  # of the wall clock from the monotonic one, at the last look
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="schedule-clock", daemon=True)

    def start(self) -> None:
        self._context.heartbeats.expect(NAME, LONGEST_PAUSE_S)
        self._thread.start()

    def stop(self) -> None:
        self._context.heartbeats.ended(NAME)
        self._stopping.set()
        self._context.wakeup.notify()
        self._thread.join(timeout=30)

    def _loop(self) -> None:
        tidy = False
        while not self._stopping.is_set():
            seen = self._context.wakeup.changes
            if not self._context.leadership.acts():
                self._context.heartbeats.beat(NAME)
                self._context.wakeup.wait(seen, 1.0)
                continue
            tidy = tidy or self._tidied()
            try:
                self.run_once()
                pause = self._until_next()
                self._context.heartbeats.beat(NAME)
            except Exception:
                log.exception("the schedule clock's pass failed")
                pause = 1.0
            self._context.wakeup.wait(seen, pause)

    def _tidied(self) -> bool:
        try:
            remove_leftovers(self._context)
        except Exception:  # the store may be away for a moment; schedules are due all the same
            log.exception("the schedule clock could not remove what ended runs left")
            return False
        return True

    def run_once(self) -> int:
        """One pass: what is due is fired; returns how many runs were made."""
        made = fire_due(self._context)
        if self._set_back():
            renew(self._context)
        return made

    def _set_back(self) -> bool:
        """Whether the wall clock was set back since the last look. At the first look nobody knows, so it may have been."""
        offset = self._context.clock().timestamp() - time.monotonic()
        before, self._offset = self._offset, offset
        return before is None or offset < before - SET_BACK_S

    def _until_next(self) -> float:
        with self._context.database.read() as session:
            due_at = session.scalar(
                select(JobRow.next_fire_at)
                .where(JobRow.next_fire_at.is_not(None), JobRow.archived.is_(False), can_be_read())
                .order_by(JobRow.next_fire_at)
                .limit(1)
            )
        if due_at is None or self._context.platform.no_jobs:
            return LONGEST_PAUSE_S
        return min(LONGEST_PAUSE_S, max(0.0, (due_at - self._context.clock()).total_seconds()))
