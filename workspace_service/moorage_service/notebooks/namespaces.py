"""In which namespace a workload runs, on Kubernetes."""

from sqlalchemy import select

from moorage_service.store.database import Database
from moorage_service.store.tables import UserRow, WorkloadRow


class Namespaces:
    """A workload's namespace never changes: who is given another one had nothing that ran in the first. What was read once stays true."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, str] = {}

    def of_workload(self, workload_id: str) -> str | None:
        """None: the store knows no such workload, or its owner has no namespace yet."""
        if workload_id not in self._known:
            query = (
                select(UserRow.namespace)
                .join(WorkloadRow, WorkloadRow.owner_id == UserRow.id)
                .where(WorkloadRow.id == workload_id)
            )
            with self._database.read() as session:
                found = session.scalar(query)
            if found is None:
                return None
            self._known[workload_id] = found
        return self._known[workload_id]
