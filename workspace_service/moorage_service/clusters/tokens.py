"""A new token for a cluster that runs: its agent is told it with its next orders, and the old one dies once the new one is used."""

import json

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage_service.clusters.operations import credentials_of
from moorage_service.context import Context
from moorage_service.identity.callers import Caller
from moorage_service.identity.tokens import issue_token
from moorage_service.store.tables import ClusterRow, TokenRow, WorkloadRow

OLD = "old_tokens"  # in the workload's details: hashes of tokens that are about to end


def renew(session: Session, context: Context, workload: WorkloadRow, row: ClusterRow) -> None:
    """In the caller's write transaction. Agents that are started from now on have the new one from the beginning."""
    known = select(TokenRow.hash).where(TokenRow.workload_id == workload.id)
    workload.details = {**workload.details, OLD: sorted(session.scalars(known))}
    credentials = {**credentials_of(context, row), "agent": issue_token(session, workload)}
    row.sealed = context.vault.seal(json.dumps(credentials))


def hand_over(session: Session, context: Context, caller: Caller, workload: WorkloadRow, row: ClusterRow) -> str | None:
    """What the agent is to use from now on, if that is not what it used. Once it has used it, the old ones are dead."""
    old = workload.details.get(OLD)
    if not old:
        return None
    if caller.token_hash in old:
        return credentials_of(context, row)["agent"]
    end_old(session, workload)
    return None


def end_old(session: Session, workload: WorkloadRow) -> None:
    for hashed in workload.details.get(OLD) or ():
        token = session.get(TokenRow, hashed)
        if token is not None:
            session.delete(token)
    workload.details = {name: value for name, value in workload.details.items() if name != OLD}
