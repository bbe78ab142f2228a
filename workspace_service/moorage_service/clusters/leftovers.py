"""Working folders of clusters that nobody needs: of such as have ended, and of such as were never made to the end."""

import logging
from collections.abc import Collection

from sqlalchemy import select

from moorage_service.clusters.operations import platform_of
from moorage_service.context import Context
from moorage_service.store.chunks import rows_among
from moorage_service.store.tables import WorkloadRow

log = logging.getLogger(__name__)
HALF_MADE_S = 600.0  # making one takes milliseconds


def sweep(context: Context) -> None:
    """What the store does not know is left alone: the store may be older than what runs."""

    def ended(ids: Collection[str]) -> list[str]:
        query = select(WorkloadRow.id).where(WorkloadRow.ended_at.is_not(None))
        with context.database.read() as session:
            return [row.id for row in rows_among(session, query, WorkloadRow.id, ids)]

    for folder in platform_of(context).sweep(ended, older_s=HALF_MADE_S):
        log.warning("removed %s, which was left over", folder)
