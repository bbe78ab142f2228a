"""Processes whose workload has ended: they hold what the ledger has given back, so they are ended.

It happens when a start came after its reservation had lapsed, or when the service was stopped between two steps. With a workload that the
store does not know, it is the store that may be wrong: `recovery.settle` does with it as the policy says.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from sqlalchemy import select

from moorage.wire import WorkloadKind
from moorage_service.clusters.operations import platform_of
from moorage_service.context import Context
from moorage_service.recovery import settle
from moorage_service.store.chunks import rows_among
from moorage_service.store.database import FAILURES
from moorage_service.store.tables import WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Observation

log = logging.getLogger(__name__)
NAME = "sweep leftovers"
TIDY_S = 30.0  # by then whoever ended it has removed what it left
LONG_S = 600.0  # by then who acted before has, too: a service that takes over has seen thousands end


class Orphans:
    """A thread that looks every `orphan_sweep_s` seconds, and then does the `sweeps`. `start` and `stop` it once."""

    def __init__(self, context: Context, sweeps: Sequence[Callable[[Context], None]] = ()) -> None:
        self._context = context
        self._sweeps = (lambda _context: self.run_once(), *sweeps)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="orphans", daemon=True)

    def start(self) -> None:
        self._context.heartbeats.expect(NAME, self._context.settings.orphan_sweep_s)
        self._thread.start()

    def stop(self) -> None:
        self._context.heartbeats.ended(NAME)
        self._stopping.set()
        self._thread.join(timeout=30)

    def run_once(self) -> None:
        found: dict[str, list[Observation]] = {}
        for seen in self._context.processes.observe_all():
            found.setdefault(seen.workload_id, []).append(seen)
        asked = select(WorkloadRow.id, WorkloadRow.kind, WorkloadRow.ended_at)
        with self._context.database.read() as session:
            known = {row.id: row for row in rows_among(session, asked, WorkloadRow.id, found)}
        for workload_id, observed in found.items():
            row = known.get(workload_id)
            if row is None or row.ended_at is None:
                continue
            try:
                if not all(seen.gone for seen in observed):
                    self._end(workload_id)
                elif (ago_s := (self._context.clock() - row.ended_at).total_seconds()) > TIDY_S:
                    self._tidy(workload_id, row.kind, long_ended=ago_s > LONG_S)
            except FAILURES:
                raise  # the store's trouble, not the workload's
            except Exception:  # one that can't be ended keeps no other
                log.exception("what is left of %s can't be ended", workload_id)
        settle.settle_unknown(self._context, [workload_id for workload_id in found if workload_id not in known])

    def _tidy(self, workload_id: str, kind: str, *, long_ended: bool) -> None:
        """What its end would have removed, had nobody killed the service in the middle of it."""
        if kind == WorkloadKind.CLUSTER.value:
            platform_of(self._context).clear(workload_id)
        else:
            self._context.forget(workload_id, long_ended=long_ended)

    def _end(self, workload_id: str) -> None:
        if all(seen.gone for seen in self._context.processes.observe(workload_id)):
            return  # it ended between our two looks
        log.warning("%s has ended, but processes of it run: ending them", workload_id)
        self._context.processes.stop(workload_id, grace_s=self._context.settings.stop_grace_s)
        with self._context.database.begin() as session:
            message = "Processes of it were still found after its end, and were ended."
            lifecycle.record(session, workload_id, "workload.orphan", message, now=self._context.clock())

    def _loop(self) -> None:
        while not self._stopping.wait(self._context.settings.orphan_sweep_s):
            for sweep in self._sweeps:
                if not self._context.leadership.acts():
                    break
                try:
                    sweep(self._context)
                except Exception:
                    log.exception("looking for orphans failed")
            self._context.heartbeats.beat(NAME)
