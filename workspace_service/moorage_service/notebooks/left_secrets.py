"""Secrets of workloads that have ended: a start or an end that was cut off may leave one, with the values of its owner's secrets."""

import logging
import time
from datetime import timedelta

from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.store.chunks import rows_among
from moorage_service.store.tables import WorkloadRow

EVERY_S = 600.0  # each look is one request for every namespace
TIDY = timedelta(seconds=30)  # by then whoever ended it has removed what it left

log = logging.getLogger(__name__)


class LeftSecrets:
    """A sweep; at the first call, and then now and then."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._next = 0.0  # of the monotonic clock

    def __call__(self, context: Context) -> None:
        if context.pods is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_s
        for workload_id in _ended(context, sorted(context.pods.with_secrets())):
            log.warning("the Secret of %s, which has ended, was left; it is removed", workload_id)
            context.forget(workload_id)


def _ended(context: Context, ids: list[str]) -> list[str]:
    query = select(WorkloadRow.id).where(WorkloadRow.ended_at < context.clock() - TIDY)
    with context.database.read() as session:
        return [row.id for row in rows_among(session, query, WorkloadRow.id, ids)]
