"""Mends what is safe to mend: what nobody uses any more is ended, removed or given back. Each with an event and an audit row."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session

from moorage import folders
from moorage_service.admin.findings import Finding
from moorage_service.clock import to_text
from moorage_service.context import Context
from moorage_service.ledger import admission
from moorage_service.store.tables import AuditRow, ClusterRow, TokenRow, WorkloadRow
from moorage_service.workloads import lifecycle

ACTOR = "moorage admin"


def repair(context: Context, findings: list[Finding]) -> list[str]:
    """What was done, a sentence each. A finding that is no longer true, or can't be repaired, changes nothing."""
    done = []
    for finding in findings:
        mend = REPAIRS.get(finding.code)
        if finding.repairable and mend is not None:
            sentence = mend(context, finding)
            if sentence is not None:
                done.append(sentence)
    return done


def _end_processes(context: Context, finding: Finding) -> str | None:
    workload_id = finding.subject
    if not _ended(context, workload_id):
        return None
    context.processes.stop(workload_id, grace_s=context.settings.stop_grace_s)
    return _note(context, finding, workload_id, f"Processes of {workload_id} ran after its end; they are being ended.")


def _remove_groups(context: Context, finding: Finding) -> str | None:
    if not _ended(context, finding.subject):
        return None
    context.machine.remove_groups(finding.subject)
    return _note(context, finding, finding.subject, f"The control group that {finding.subject} left is removed.")


def _remove_scratch(context: Context, finding: Finding) -> str | None:
    path = Path(finding.subject)
    if path.parent != context.settings.state / "scratch" or path.is_symlink():
        return None
    if not folders.remove(path, ignore_errors=True):
        return None
    return _note(context, finding, None, f"The working folder {path} is removed.")


def _forget(context: Context, finding: Finding) -> str | None:
    workload_id = finding.subject
    if not _ended(context, workload_id) or not all(seen.gone for seen in context.processes.observe(workload_id)):
        return None
    context.forget(workload_id)
    return _note(context, finding, workload_id, f"{finding.what} The records of its processes are removed.")


def _give_back(context: Context, finding: Finding) -> str | None:
    workload_id = finding.subject
    if not _ended(context, workload_id) or not all(seen.gone for seen in context.processes.observe(workload_id)):
        return None
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, workload_id)
        admission.release(session, workload_id, now=workload.ended_at or context.clock())
        return _noted(session, context, finding, workload_id, f"What {workload_id} held is given back.")


def _free_ports(context: Context, finding: Finding) -> str | None:
    with context.database.begin() as session:
        row = session.get(ClusterRow, finding.subject)
        if row is None or not _is_over(session.get(WorkloadRow, finding.subject)):
            return None
        row.port_block, row.sealed = None, None
        return _noted(session, context, finding, finding.subject, f"The ports of {finding.subject} are free again.")


def _drop_token(context: Context, finding: Finding) -> str | None:
    with context.database.begin() as session:
        row = session.get(TokenRow, finding.subject)
        if row is None or not _is_over(session.get(WorkloadRow, row.workload_id)):
            return None
        session.execute(delete(TokenRow).where(TokenRow.hash == finding.subject))
        return _noted(
            session, context, finding, row.workload_id, f"A token that {row.workload_id} left behind is dropped."
        )


REPAIRS: dict[str, Callable[[Context, Finding], str | None]] = {
    "orphan.processes": _end_processes,
    "orphan.cgroup": _remove_groups,
    "orphan.scratch": _remove_scratch,
    "orphan.ports": _free_ports,
    "orphan.token": _drop_token,
    "held.after_end": _give_back,
    "held.before_gone": _forget,
}


def _ended(context: Context, workload_id: str) -> bool:
    with context.database.read() as session:
        return _is_over(session.get(WorkloadRow, workload_id))


def _is_over(workload: WorkloadRow | None) -> bool:
    return workload is not None and workload.ended_at is not None


def _note(context: Context, finding: Finding, workload_id: str | None, sentence: str) -> str:
    with context.database.begin() as session:
        return _noted(session, context, finding, workload_id, sentence)


def _noted(session: Session, context: Context, finding: Finding, workload_id: str | None, sentence: str) -> str:
    now = context.clock()
    if workload_id is not None:
        lifecycle.record(session, workload_id, "admin.repaired", sentence, now=now, actor=ACTOR)
    subject = workload_id or finding.subject
    session.add(
        AuditRow(
            at=now, actor=ACTOR, action="repair", target=subject[:255], before={"finding": finding.code},
            after={"at": to_text(now)}, why=finding.what,
        )
    )  # fmt: skip
    return sentence
