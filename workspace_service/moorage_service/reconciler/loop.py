"""Level-triggered: every live workload of a kind is compared with what is observed, on changes and on a timer.

One thread per kind, so that no kind waits for another. A pass begins with the kind's survey, which looks at all of them at once and names
those for which there is something to do; only these are stepped. A step that raises is logged with its traceback and tried again later
and later (never a crash loop); its workload says so in words after three failures in a row.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import Select, func, select

from moorage.wire import Phase, WorkloadKind
from moorage_service.context import Context
from moorage_service.metrics import LIVE, RECONCILE, RECONCILE_FAILED
from moorage_service.reconciler.fence import OutdatedError
from moorage_service.store.database import FAILURES
from moorage_service.store.tables import WorkloadRow
from moorage_service.watch import logs
from moorage_service.workloads import lifecycle
from moorage_spawners.launch.pauses import pause_s

log = logging.getLogger(__name__)

Step = Callable[[Context, str], None]
# Of these live workloads, oldest first, those that need a step now. A step decides for itself again: naming too many costs time only.
Survey = Callable[[Context, Sequence[str]], Iterable[str]]
TOLD_AFTER = 3
STORE_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PHASES = [phase.value for phase in Phase]


class Reconciler:
    """Runs `step(context, workload_id)` for each live workload of one kind that the survey names, or without one for all.

    `start` and `stop` it once.
    """

    def __init__(self, context: Context, kind: WorkloadKind, step: Step, survey: Survey | None = None) -> None:
        self.kind = kind
        self._context = context
        self._step = step
        self._survey = survey
        self._failures: dict[str, tuple[int, float]] = {}  # workload -> failures in a row, not again before
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"reconcile-{kind.value}", daemon=True)

    @property
    def name(self) -> str:
        return f"reconcile {self.kind.value}s"

    def start(self) -> None:
        self._context.heartbeats.expect(self.name, self._context.settings.reconcile_s)
        self._thread.start()

    def stop(self) -> None:
        self._context.heartbeats.ended(self.name)
        self._stopping.set()
        self._context.wakeup.notify()
        self._thread.join(timeout=30)

    def run_once(self) -> None:
        """One pass over all live workloads of the kind."""
        with RECONCILE.labels(self.kind.value).time():
            for workload_id in self._needy(self._live()):
                if self._stopping.is_set() or not self._context.leadership.held():
                    return
                self._reconcile(workload_id)

    def _loop(self) -> None:
        seen = -1
        while not self._stopping.is_set():
            changes = self._context.wakeup.changes
            try:
                if self._context.leadership.acts():
                    self.run_once()
                self._context.heartbeats.beat(self.name)
            except FAILURES as error:
                log.error("reconcile pass of kind %s: the store fails: %s", self.kind.value, error)
                self._stopping.wait(STORE_PAUSE_S)
            except Exception:
                log.exception("reconcile pass of kind %s failed", self.kind.value)
            seen = changes
            self._context.wakeup.wait(seen, self._context.settings.reconcile_s)

    def _live(self) -> list[str]:
        with self._context.database.read() as session:
            ids = list(session.scalars(_in_turn(self.kind)))
        LIVE.labels(self.kind.value).set(len(ids))
        alive = set(ids)
        self._failures = {key: value for key, value in self._failures.items() if key in alive}
        return ids

    def _needy(self, live: list[str]) -> list[str]:
        now = time.monotonic()
        ready = [workload_id for workload_id in live if now >= self._failures.get(workload_id, (0, 0.0))[1]]
        if self._survey is None or not ready:
            return ready
        try:
            named = set(self._survey(self._context, ready))
        except Exception:  # one odd row must not hide the others: each is looked at by itself
            log.exception("the survey of kind %s failed; every one of them is stepped", self.kind.value)
            return ready
        return [workload_id for workload_id in ready if workload_id in named or workload_id in self._failures]

    def _reconcile(self, workload_id: str) -> None:
        failures, not_before = self._failures.get(workload_id, (0, 0.0))
        if time.monotonic() < not_before:
            return
        try:
            with logs.within(workload=workload_id):
                self._step(self._context, workload_id)
        except FAILURES:
            raise  # the store's trouble, not the workload's: the next pass is soon, and for all of them
        except OutdatedError as error:
            log.info("%s is left to another process: %s", workload_id, error)
        except Exception as error:
            with logs.within(workload=workload_id):
                log.exception("reconciling %s failed", workload_id)
            RECONCILE_FAILED.labels(self.kind.value).inc()
            failures += 1
            pause = pause_s(failures, first_s=2 * self._context.settings.reconcile_s, longest_s=LONGEST_PAUSE_S)
            self._failures[workload_id] = (failures, time.monotonic() + pause)
            if failures == TOLD_AFTER:
                self._tell(workload_id, error)
        else:
            self._failures.pop(workload_id, None)

    def _tell(self, workload_id: str, error: Exception) -> None:
        message = (
            f"Moorage has trouble with this workload and keeps trying ({type(error).__name__}). "
            "An admin finds the cause in the service's log."
        )
        with self._context.database.begin() as session:
            lifecycle.record(session, workload_id, "reconcile.trouble", message, now=self._context.clock())


def _in_turn(kind: WorkloadKind) -> Select[str]:
    """Each owner's first, then each owner's second, and so on, what holds something before what is queued: whoever holds little
    is admitted before whoever holds much, so that nobody's queue stands before everybody else's.
    """
    turn = func.row_number().over(
        partition_by=WorkloadRow.owner_id,
        order_by=(WorkloadRow.phase == Phase.QUEUED.value, WorkloadRow.created_at, WorkloadRow.id),
    )
    return (
        select(WorkloadRow.id)
        # Where it is only a newer version may know: it is left alone, until its owner asks it to end.
        .where(WorkloadRow.kind == kind.value, WorkloadRow.ended_at.is_(None), WorkloadRow.phase.in_(PHASES))
        .order_by(turn, WorkloadRow.created_at, WorkloadRow.id)
    )


def make_reconcilers(
    context: Context, steps: Mapping[WorkloadKind, Step], surveys: Mapping[WorkloadKind, Survey]
) -> list[Reconciler]:
    return [Reconciler(context, kind, step, surveys.get(kind)) for kind, step in steps.items()]
