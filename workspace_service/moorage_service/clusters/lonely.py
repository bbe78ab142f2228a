"""Since when a cluster has been without a notebook that it follows."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moorage_service.clusters.lifetime import Lifetime
from moorage_service.store.tables import WorkloadRow


class Cache:
    """For one look at many clusters: which notebooks run is asked once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: set[tuple[str, str]] | None = None

    def since(self, cluster: WorkloadRow, life: Lifetime) -> datetime | None:
        """None while one runs, or when the cluster follows none. One that never had any is alone since its making."""
        if life.on_notebook_end != "stop":
            return None
        if self._running is None:
            query = select(WorkloadRow.owner_id, WorkloadRow.project_id).where(
                WorkloadRow.kind == "notebook", WorkloadRow.ended_at.is_(None)
            )
            self._running = {(row.owner_id, row.project_id) for row in self._session.execute(query)}
        projects = life.follows or (cluster.project_id,)  # of an earlier release: nobody noted where it was made
        if any((cluster.owner_id, project) in self._running for project in projects):
            return None
        last: datetime | None = self._session.scalar(
            select(func.max(WorkloadRow.ended_at)).where(
                WorkloadRow.kind == "notebook",
                WorkloadRow.owner_id == cluster.owner_id,
                WorkloadRow.project_id.in_(projects),
            )
        )
        return cluster.created_at if last is None else max(last, cluster.created_at)
