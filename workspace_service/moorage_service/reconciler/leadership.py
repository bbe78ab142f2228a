"""Who of several service processes acts: one at a time starts, watches, ends, fires and builds; all of them answer requests.

The one that holds the lease named `reconciler` in the store does. Each change of hands has a higher fence: a process that was paused
beyond its lease finds itself fenced off when it goes on, before it starts or stops anything (`LocalProcesses.guard`).
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from moorage_service.clock import Clock
from moorage_service.reconciler.fence import Fence, OutdatedError
from moorage_service.reconciler.wakeup import Wakeup
from moorage_service.store.database import Database
from moorage_service.store.locks import lock
from moorage_service.store.tables import LeaseRow
from moorage_spawners.shim import tree

log = logging.getLogger(__name__)
NAME = "reconciler"
RENEWALS = 3  # within one lease
AGAIN_S = 5.0  # after a term could not begin


class Leadership:
    """Before `start`, and for who never calls it (tests, a command), there is nobody else: it is always held.

    `start` and `stop` it once; `held`, `acts` and `require` may be called by any thread.
    """

    def __init__(self, database: Database, clock: Clock, wakeup: Wakeup, fence_file: Path, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._lease_s = lease_s
        self._fence = Fence(fence_file)
        self._holder = f"{_machine()}/{os.getpid()}/{tree.started(os.getpid())}"
        self._alone = True
        self._until = 0.0  # by this process's own monotonic clock, which goes on while it is paused
        self._number = 0
        self._first: Callable[[], None] | None = None
        self._begun = 0  # the term that began last
        self._again_at = 0.0
        self._turn = threading.Lock()  # whoever begins a term
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="leadership", daemon=True)

    @property
    def number(self) -> int:
        """The fence of the lease that was held last; 0: none yet. Another number is another term."""
        return self._number

    def begin_with(self, first: Callable[[], None]) -> None:
        """Before `start`: what is to be done in each term of ours before anything else. It may take longer than a lease."""
        self._first = first

    def start(self) -> None:
        """Tries once before it returns, so that the only process acts at once."""
        self._alone = False
        self._try()
        self._thread.start()

    def stop(self) -> None:
        """Gives the lease up, so that another process need not wait for its end."""
        self._stopping.set()
        self._thread.join(timeout=30)
        if not self.held():
            return
        self._until = 0.0
        with self._database.begin() as session:
            row = session.get(LeaseRow, NAME)
            if row is not None and row.holder == self._holder:
                row.expires_at = self._clock()

    def held(self) -> bool:
        return self._alone or time.monotonic() < self._until

    def begin(self) -> None:
        """Once in each term: what it begins with. Raises what that raises."""
        with self._turn:
            self._begin()

    def acts(self) -> bool:
        """Whether it is held, and the term has begun; else it begins now, by one thread, and nobody acts meanwhile."""
        if not self.held():
            return False
        if self._first is None or self._begun == self._number:
            return True
        if time.monotonic() < self._again_at or not self._turn.acquire(blocking=False):
            return False
        try:
            self._begin()
        except Exception:  # the store or the cluster may be away for a moment
            self._again_at = time.monotonic() + AGAIN_S
            log.exception("this process can't act yet in term %d", self._number)
            return False
        finally:
            self._turn.release()
        self._wakeup.notify()
        return self.held()

    def _begin(self) -> None:
        number = self._number
        if self._first is not None and self._begun != number:
            self._first()
            self._begun = number

    def require(self) -> None:
        """At the last moment before something is started or ended. Raises OutdatedError when it is another's to do."""
        if self._alone:
            return
        if not self.held():
            raise OutdatedError("The lease of this service process has run out; another one acts now.")
        self._fence.require(self._number)

    def _loop(self) -> None:
        while not self._stopping.wait(self._lease_s / RENEWALS):
            self._try()

    def _try(self) -> None:
        try:
            self.renew()
        except Exception:  # the store may be away: the lease runs out by itself, and is asked for again
            log.exception("the lease could not be renewed")

    def renew(self) -> bool:
        """Takes the lease, or keeps it. False while another process has it."""
        asked = time.monotonic()
        with self._database.begin() as session:
            lock(session, [f"lease:{NAME}"])
            number = self._take(session)
        if number is None:
            self._until = 0.0
            return False
        self._fence.raise_to(number)
        fresh = number != self._number or not self.held()
        self._number, self._until = number, asked + self._lease_s
        if fresh:
            log.info("this process acts from now on (term %d)", number)
            self._wakeup.notify()
        return True

    def _take(self, session: Session) -> int | None:
        now = self._clock()
        row = session.get(LeaseRow, NAME)
        if row is None:
            row = LeaseRow(name=NAME, holder="", fence=0, expires_at=now)
            session.add(row)
        if row.holder and row.holder != self._holder and row.expires_at > now and not _is_dead(row.holder):
            return None
        if row.holder != self._holder or row.expires_at <= now:
            # Also after its own pause: what was begun before it is over. The file knows terms that a restored store does not.
            row.holder, row.fence = self._holder, max(row.fence, self._fence.read()) + 1
        row.expires_at = now + timedelta(seconds=self._lease_s)
        return row.fence


def _machine() -> str:
    """This boot of this machine, and the processes that are seen from here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
    return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"


def _is_dead(holder: str) -> bool:
    """Whether the holder was a process of this machine that is gone, so that nobody need wait for its lease."""
    machine, pid, started = holder.split("/")
    return machine == _machine() and not tree.is_same(int(pid), started)
