"""Secrets of users and projects: written, sealed at rest, given to workloads by name, never read back."""

import re
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Secret
from moorage_service.clock import to_text
from moorage_service.errors import BadRequest, NotFound
from moorage_service.identity.vault import Vault
from moorage_service.store.tables import SecretRow

Scope = Literal["user", "project"]
LONGEST = 64 * 1024  # bytes: what one variable of a process may hold, with room to spare
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# Variables that make a process run other code, that Moorage, Jupyter and the engines set themselves, or by which a machine hands out GPUs.
_RESERVED = re.compile(
    r"(?i)(LD_|DYLD_|PYTHON|MOORAGE_|JUPYTER|JPY_|IPYTHON|RAY_|DASK_|BASH_|GIT_SSH|NODE_OPTIONS|CUDA_VISIBLE|NVIDIA_).*"
    r"|PATH|HOME|USER|SHELL|ENV|IFS|LANG|TMPDIR|PERL5OPT|PERL5LIB|RUBYOPT|PROMPT_COMMAND|EDITOR|PAGER"
)


def put(session: Session, vault: Vault, scope: Scope, scope_id: str, name: str, value: str, *, now: datetime) -> None:
    """Writes a secret, new or again. Raises BadRequest for a name that can't be an environment variable's."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"name: {name[:80]!r} can't be the name of an environment variable. "
            "Use letters, digits and underscores, beginning with a letter.",
            field="name",
        )
    if _RESERVED.fullmatch(name):
        raise BadRequest(f"name: {name!r} is set by the system itself. Choose another name.", field="name")
    if not value or "\0" in value or len(value.encode()) > LONGEST:
        raise BadRequest(
            f"value: it must have 1 to {LONGEST} bytes, none of them zero. Keep larger things in a file or a bucket.",
            field="value",
        )
    row = session.get(SecretRow, (scope, scope_id, name))
    if row is None:
        row = SecretRow(scope=scope, scope_id=scope_id, name=name)
        session.add(row)
    row.sealed, row.updated_at = vault.seal(value), now


def listed(session: Session, scope: Scope, scope_id: str) -> list[Secret]:
    """Names only."""
    query = select(SecretRow).where(SecretRow.scope == scope, SecretRow.scope_id == scope_id).order_by(SecretRow.name)
    return [Secret(name=row.name, scope=scope, updated_at=to_text(row.updated_at)) for row in session.scalars(query)]


def remove(session: Session, scope: Scope, scope_id: str, name: str) -> None:
    row = session.get(SecretRow, (scope, scope_id, name))
    if row is None:
        raise NotFound(f"There is no secret {name!r} here.", field="name")
    session.delete(row)


def values(
    session: Session, vault: Vault, *, user_id: str, project_id: str, names: list[str] | None = None
) -> dict[str, str]:
    """Name -> value of the project's and the user's secrets (the user's win), all or those named. For workloads only.

    One whose name was taken by an earlier version, and is refused by now, reaches none.
    """
    found: dict[str, str] = {}
    for scope, scope_id in (("project", project_id), ("user", user_id)):
        query = (
            select(SecretRow).where(SecretRow.scope == scope, SecretRow.scope_id == scope_id).order_by(SecretRow.name)
        )
        for row in session.scalars(query):
            if (names is None or row.name in names) and not _RESERVED.fullmatch(row.name):
                found[row.name] = vault.open_sealed(row.sealed)
    return found
