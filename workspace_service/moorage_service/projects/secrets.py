"""Secrets of users and projects: written, sealed at rest, given to workloads by name, never read back."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage_service.identity.vault import Vault
from moorage_service.store.tables import SecretRow


def values(
    session: Session, vault: Vault, *, user_id: str, project_id: str, names: list[str] | None = None
) -> dict[str, str]:
    """Name -> value of the project's and the user's secrets (the user's win), all or those named. For workloads only."""
    found: dict[str, str] = {}
    for scope, scope_id in (("project", project_id), ("user", user_id)):
        query = (
            select(SecretRow).where(SecretRow.scope == scope, SecretRow.scope_id == scope_id).order_by(SecretRow.name)
        )
        for row in session.scalars(query):
            if names is None or row.name in names:
                found[row.name] = vault.open_sealed(row.sealed)
    return found
