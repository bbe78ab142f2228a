"""What a workload printed, without the secrets that it was given: before it is kept or shown to anybody."""

import json
from collections.abc import Callable

from cryptography.fernet import InvalidToken

from moorage_jobs.runner.redaction import Redactor
from moorage_service.context import Context
from moorage_service.projects import secrets
from moorage_service.store.tables import ClusterRow, WorkloadRow

PUBLIC = frozenset({"ca", "cert"})  # shown to whoever connects


def hider(context: Context, workload_id: str) -> Callable[[str], str]:
    """Masks the present values of the owner's and the project's secrets, and a cluster's own credentials."""
    with context.database.read() as session:
        workload = session.get(WorkloadRow, workload_id)
        if workload is None:
            return str
        values = secrets.values(session, context.vault, user_id=workload.owner_id, project_id=workload.project_id)
        cluster = session.get(ClusterRow, workload_id)
    if cluster is not None and cluster.sealed is not None:
        try:
            given = json.loads(context.vault.open_sealed(cluster.sealed))
        except InvalidToken:  # the vault has a new key
            given = {}
        values |= {f"credential {name}": value for name, value in given.items() if name not in PUBLIC}
    return Redactor(values).text
