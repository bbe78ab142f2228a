"""Workload tokens: one per workload and generation, stored by hash, dead with the workload."""

import hashlib
import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage_service.store.tables import TokenRow, WorkloadRow

PREFIX = "moor_"


def hashed(token: str) -> str:
    # 32 random bytes need no slow hash.
    return hashlib.sha256(token.encode()).hexdigest()


def issue_token(session: Session, workload: WorkloadRow) -> str:
    """A fresh token for the workload's present generation. Shown once, here."""
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(TokenRow(hash=hashed(token), workload_id=workload.id, generation=workload.generation))
    return token


def workload_of_token(session: Session, token: str) -> WorkloadRow | None:
    """The live workload whose token this is; None for an unknown one, an ended workload, or an older generation."""
    row = session.scalar(select(TokenRow).where(TokenRow.hash == hashed(token)))
    if row is None:
        return None
    workload = session.get(WorkloadRow, row.workload_id)
    if workload is None or workload.ended_at is not None or workload.generation != row.generation:
        return None
    return workload
