"""Changes of a workload's row, each with its event, in the caller's write transaction.

`ended` is called only when nothing of the workload is observed any more: it releases the reservation and kills its tokens.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, event, insert, inspect
from sqlalchemy.orm import Session

from moorage.wire import Phase, WorkloadKind
from moorage_service.ledger import admission
from moorage_service.metrics import ENDED, TIME_TO_READY
from moorage_service.store.commits import around_commit
from moorage_service.store.locks import may_write, side_by_side
from moorage_service.store.tables import EventRow, TokenRow, WorkloadRow, new_id
from moorage_service.store.text import sentence
from moorage_spawners.launch.crash_points import reach

PREFIXES = {WorkloadKind.NOTEBOOK: "nb", WorkloadKind.CLUSTER: "cl", WorkloadKind.RUN: "run"}


def new_workload(
    session: Session, *, kind: WorkloadKind, name: str, owner_id: str, project_id: str, now: datetime, phase: Phase = Phase.PENDING,
    environment: str | None = None, parent_id: str | None = None, details: dict[str, Any] | None = None,
) -> WorkloadRow:  # fmt: skip
    """A row in the session, not yet admitted: call `ledger.admission.admit` in the same transaction."""
    workload = WorkloadRow(
        id=new_id(PREFIXES[kind]), kind=kind.value, name=name, owner_id=owner_id, project_id=project_id, parent_id=parent_id,
        target="running", phase=phase.value, environment=environment, details=details or {}, created_at=now,
    )  # fmt: skip
    session.add(workload)
    return workload


def record(
    session: Session, workload_id: str, code: str, message: str, *, now: datetime, actor: str | None = None
) -> None:
    """One line of history, for the owner to read."""
    session.add(EventRow(workload_id=workload_id, at=now, code=code, message=sentence(message), actor=actor))


def record_all(session: Session, lines: list[tuple[str, str, str]], *, now: datetime) -> None:
    """One line of history for each of many workloads: (its id, code, message). At once, for one by one is slow."""
    if lines:
        rows = [
            {"workload_id": workload_id, "at": now, "code": code, "message": sentence(message)}
            for workload_id, code, message in lines
        ]
        session.execute(insert(EventRow), rows)


def enter(
    session: Session, workload: WorkloadRow, phase: Phase, *, now: datetime, code: str | None = None, reason: str | None = None,
    actor: str | None = None,
) -> bool:  # fmt: skip
    """Moves the workload to `phase` with a reason in words; the same phase and reason again changes nothing (False), nor does it once it
    has ended.
    """
    return _take(session, workload) and _move(session, workload, phase, now=now, code=code, reason=reason, actor=actor)


def _move(
    session: Session, workload: WorkloadRow, phase: Phase, *, now: datetime, code: str | None, reason: str | None,
    actor: str | None = None,
) -> bool:  # fmt: skip
    """`enter`, of a workload that is taken."""
    reason = None if reason is None else sentence(reason)
    if workload.phase == phase.value and workload.reason == reason:
        return False
    changed = workload.phase != phase.value
    workload.phase, workload.reason_code, workload.reason = phase.value, code, reason
    if phase is Phase.STARTING and workload.started_at is None:
        workload.started_at = now
    if phase in (Phase.READY, Phase.RUNNING) and workload.ready_at is None:
        workload.ready_at = now
        parts, kind = _parts_of_the_way(workload, now), workload.kind
        once_committed(session, lambda: _count_the_way(kind, parts))
    if changed or reason is not None:
        message = reason or f"The {workload.kind} is {phase.value}."
        record(session, workload.id, code or f"{workload.kind}.{phase.value}", message, now=now, actor=actor)
    return True


def _take(session: Session, workload: WorkloadRow) -> bool:
    """Whether it has not ended; nobody else ends or moves it until this transaction is over.

    It was read a moment ago, and where transactions run side by side somebody else may have written its end since.
    """
    state = inspect(workload)
    if may_write(session) and side_by_side(session) and state.persistent:
        session.flush()  # else what was changed and not yet sent would be lost
        session.refresh(workload, with_for_update={"key_share": True})  # an event that names it need not wait
    return workload.ended_at is None


def _parts_of_the_way(workload: WorkloadRow, now: datetime) -> dict[str, float]:
    """Seconds from its creation to ready."""
    parts = {"all": (now - workload.created_at).total_seconds()}
    if workload.started_at is not None:
        parts["waiting"] = (workload.started_at - workload.created_at).total_seconds()
        parts["starting"] = (now - workload.started_at).total_seconds()
    return parts


def _count_the_way(kind: str, parts: Mapping[str, float]) -> None:
    for part, took in parts.items():
        TIME_TO_READY.labels(kind, part).observe(took)


def ask_to_end(
    session: Session, workload: WorkloadRow, *, now: datetime, reason: str, actor: str | None = None
) -> None:
    """Sets the target to gone; the reconciler does the rest. Already ending or ended: nothing."""
    if not _take(session, workload) or workload.target == "gone":
        return
    workload.target = "gone"
    around_commit(session, before=lambda: reach("stop.recorded"), after=lambda: reach("stop.committed"))
    if workload.phase != Phase.QUEUED.value:
        _move(session, workload, Phase.STOPPING, now=now, code=f"{workload.kind}.stopping", reason=reason, actor=actor)


def ended(
    session: Session,
    workload: WorkloadRow,
    phase: Phase,
    *,
    now: datetime,
    code: str | None = None,
    reason: str | None = None,
) -> None:
    """The workload is observed gone: final phase, reservation released, tokens dead. Already ended: nothing."""
    if not _take(session, workload):
        return
    _move(session, workload, phase, now=now, code=code, reason=reason)
    workload.ended_at = now
    gone(session, workload, now=now)
    kind = workload.kind
    # Without a code of its own the reason is somebody's words, which are no label.
    once_committed(session, lambda: ENDED.labels(kind, phase.value, code or "").inc())


def gone(session: Session, workload: WorkloadRow, *, now: datetime) -> None:
    """Nothing of it runs: it holds nothing any more, and its tokens are dead. `ended` follows once its files are seen to."""
    workload.target = "gone"
    admission.release(session, workload.id, now=now)
    session.execute(delete(TokenRow).where(TokenRow.workload_id == workload.id))


def once_committed(session: Session, count: Callable[[], None]) -> None:
    """A change that is rolled back, or only tried out, is not counted."""
    event.listen(session, "after_commit", lambda _session: count(), once=True)


def never_begun(workload: WorkloadRow, phase: Phase, *, now: datetime, code: str, reason: str) -> None:
    """Makes a new row one of history only: nothing was reserved for it, started or given a token. The caller records its event."""
    workload.target, workload.phase, workload.ended_at = "gone", phase.value, now
    workload.reason_code, workload.reason = code, sentence(reason)
