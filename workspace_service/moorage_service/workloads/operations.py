"""Seeing workloads and stopping them, whatever their kind. Someone else's is not found."""

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Event, Phase, Workload, WorkloadKind
from moorage_service.clock import optional_text, to_text
from moorage_service.errors import NotFound
from moorage_service.identity.audit import audit_others
from moorage_service.identity.callers import Caller
from moorage_service.ledger.resources import from_units
from moorage_service.store.records import ODD
from moorage_service.store.tables import EventRow, ProjectRow, ReservationRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle

log = logging.getLogger(__name__)


def find_own(session: Session, caller: Caller, workload_id: str, *, kind: WorkloadKind | None = None) -> WorkloadRow:
    """The caller's own workload, or any for an admin. A run finds itself and its own cluster. Else NotFound."""
    workload = session.get(WorkloadRow, workload_id)
    if workload is None or (kind is not None and workload.kind != kind.value) or not _may_see(caller, workload):
        noun = "workload" if kind is None else kind.value
        raise NotFound(f"There is no {noun} {workload_id!r} of yours.")
    return workload


def _may_see(caller: Caller, workload: WorkloadRow) -> bool:
    if caller.workload_kind in ("cluster", "run"):
        return caller.workload_id in (workload.id, workload.parent_id)
    return caller.admin or workload.owner_id == caller.user_id


def common_fields(session: Session, workload: WorkloadRow) -> dict[str, Any]:
    """The fields of `moorage.wire.Workload`, for it and its subclasses."""
    reservation = session.get(ReservationRow, workload.id)
    holds = {} if reservation is None or reservation.released_at is not None else reservation.amounts
    return {
        "id": workload.id,
        "kind": WorkloadKind(workload.kind),
        "name": workload.name,
        "owner": session.get_one(UserRow, workload.owner_id).hub_name,
        "project": session.get_one(ProjectRow, workload.project_id).slug,
        "phase": Phase(workload.phase),
        "reason_code": workload.reason_code,
        "reason": workload.reason,
        "holds": {name: from_units(name, units) for name, units in sorted(holds.items())},
        "created_at": to_text(workload.created_at),
        "ready_at": optional_text(workload.ready_at),
        "ended_at": optional_text(workload.ended_at),
    }


def to_wire(session: Session, workload: WorkloadRow) -> Workload:
    """Of one that this version can't read as much as it can: its owner sees that it is there, and may stop it."""
    try:
        return Workload(**common_fields(session, workload))
    except ODD as error:
        log.debug("%s is shown as far as it can be read: %s", workload.id, error)
        return _as_far_as_readable(session, workload)


def _as_far_as_readable(session: Session, workload: WorkloadRow) -> Workload:
    prefix = workload.id.partition("-")[0]
    kind = next((kind for kind, known in lifecycle.PREFIXES.items() if prefix == known), WorkloadKind.CLUSTER)
    phases = {phase.value: phase for phase in Phase}
    unknown = Phase.PENDING if workload.ended_at is None else Phase.FAILED
    return Workload(
        id=workload.id, kind=kind, name=workload.name, owner=session.get_one(UserRow, workload.owner_id).hub_name,
        project=session.get_one(ProjectRow, workload.project_id).slug, phase=phases.get(workload.phase, unknown),
        reason_code="record.quarantined",
        reason="This version of Moorage can't read all of its record, so it is left alone. You can stop it; its history says more.",
        created_at=to_text(workload.created_at), ended_at=optional_text(workload.ended_at),
    )  # fmt: skip


def events_of(session: Session, workload_id: str, *, most: int = 500) -> list[Event]:
    """Oldest first; the latest `most`."""
    rows = session.scalars(
        select(EventRow).where(EventRow.workload_id == workload_id).order_by(EventRow.id.desc()).limit(most)
    )
    return [
        Event(at=to_text(row.at), code=row.code, message=row.message, actor=row.actor) for row in reversed(rows.all())
    ]


def list_workloads(
    session: Session, *, owner_id: str | None, kind: WorkloadKind | None = None, alive: bool = True, most: int = 200
) -> list[WorkloadRow]:
    """Newest first. `owner_id` None: everybody's (for admins). `alive` False: ended ones as well."""
    query = select(WorkloadRow).order_by(WorkloadRow.created_at.desc()).limit(most)
    if owner_id is not None:
        query = query.where(WorkloadRow.owner_id == owner_id)
    if kind is not None:
        query = query.where(WorkloadRow.kind == kind.value)
    if alive:
        query = query.where(WorkloadRow.ended_at.is_(None))
    return list(session.scalars(query))


def stop(session: Session, caller: Caller, workload_id: str, *, now: datetime, why: str | None = None) -> WorkloadRow:
    """Asks the caller's workload (any, for an admin) to end; what it holds is released once it is gone."""
    workload = find_own(session, caller, workload_id)
    reason = "Stopped by its owner." if caller.user_id == workload.owner_id else f"Stopped by the admin {caller.name}."
    if workload.target == "running" and workload.ended_at is None:
        before = {"kind": workload.kind, "name": workload.name, "phase": workload.phase}
        after = {"phase": Phase.STOPPING.value}
        audit_others(
            session, caller, "workload.stop", workload.id, workload.owner_id, now=now, before=before, after=after, why=why
        )  # fmt: skip
    lifecycle.ask_to_end(session, workload, now=now, reason=reason, actor=caller.name)
    return workload
