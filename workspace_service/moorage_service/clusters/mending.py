"""What is done about parts of a cluster that are lost, stuck or silent: workers and agents are replaced, silence is said."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from moorage.wire import Phase
from moorage_service.clusters import reports, scaling
from moorage_service.clusters.plan import HEAD
from moorage_service.clusters.platforms.base import Seen
from moorage_service.clusters.scaling import Fleet
from moorage_service.context import Context
from moorage_service.store.tables import ClusterRow, WorkloadRow
from moorage_service.workloads import lifecycle

SILENT_S = 3 * reports.KEPT_S
LONGEST_AGENT_PAUSE_S = 60.0
MORE_HEADS = 2


def head_again(session: Session, workload: WorkloadRow, row: ClusterRow, seen: list[Seen], now: datetime) -> bool:
    """Whether a head that ended is to be started anew: before the cluster was ever ready, when nothing is lost by it, and twice at most.

    On a busy machine engines miss time-outs of their own, which are shorter than ours.
    """
    head = next((each for each in seen if each.role == HEAD), None)
    tried = row.scale.get("heads", 0)
    if head is None or not head.gone or head.out_of_memory or workload.ready_at is not None or tried >= MORE_HEADS:
        return False
    row.scale = {**row.scale, "heads": tried + 1}
    what = "scheduler" if row.engine == "dask" else "head"
    message = f"The {what} ended before the cluster was ready: {head.how}. It is started again."
    lifecycle.record(session, workload.id, "cluster.head_again", message, now=now)
    return True


def lose_workers(session: Session, workload: WorkloadRow, fleet: Fleet, gone: dict[str, Seen], now: datetime) -> Fleet:
    lost = [name for name in fleet.workers if name in gone]
    for name in lost:
        advice = " Larger workers may help." if gone[name].out_of_memory else ""
        message = f"{name} is gone: {gone[name].how}.{advice} Another one takes its place."
        code = "cluster.worker_out_of_memory" if gone[name].out_of_memory else "cluster.worker_lost"
        lifecycle.record(session, workload.id, code, message, now=now)
    return scaling.lose(fleet, lost, now.timestamp()) if lost else fleet


def give_up_on_missing(
    session: Session,
    context: Context,
    workload: WorkloadRow,
    row: ClusterRow,
    fleet: Fleet,
    gone: dict[str, Seen],
    now: datetime,
) -> Fleet:
    """Workers whose processes run, and that the engine has not had for as long as a whole cluster may take: stuck, or cut off."""
    patience = context.settings.start_timeout_s
    missing = row.scale.get("missing", {})
    heard = row.reported_at is not None and (now - row.reported_at).total_seconds() <= SILENT_S
    stuck = [
        name
        for name in fleet.workers
        if heard and name not in gone and now.timestamp() - missing.get(name, now.timestamp()) > patience
    ]
    for name in stuck:
        message = f"{name} runs, but has not been part of the cluster for {patience:.0f} s: it is ended. Another one takes its place."
        lifecycle.record(session, workload.id, "cluster.worker_lost", message, now=now)
    return scaling.give_up_on(fleet, stuck, now.timestamp()) if stuck else fleet


def last_lost(gone: dict[str, Seen]) -> str:
    workers = [each for role, each in gone.items() if role.startswith("worker-")]
    return f" (the last one: {workers[-1].how})" if workers else ""


def agent_role(
    session: Session, workload: WorkloadRow, scale: dict[str, Any], gone: dict[str, Seen], now: datetime
) -> tuple[str, dict[str, Any]]:
    """The agent's role name, a new one each time it was lost, later and later."""
    number = scale.get("agent", 1)
    role = "agent" if number == 1 else f"agent-{number}"
    if role not in gone or now.timestamp() < scale.get("agent_not_before", 0.0):
        return role, scale
    pause = min(LONGEST_AGENT_PAUSE_S, 2.0 ** min(number, 16))
    message = f"Its agent is gone: {gone[role].how}. Another one takes its place."
    lifecycle.record(session, workload.id, "cluster.agent_lost", message, now=now)
    return f"agent-{number + 1}", {**scale, "agent": number + 1, "agent_not_before": now.timestamp() + pause}


def surplus(fleet: Fleet, row: ClusterRow, seen: list[Seen]) -> list[str]:
    """Workers to end: retired ones that the engine has let go, and any that nobody asked for."""
    report = row.report or {}
    known = {worker["name"] for worker in report.get("workers", ())} if report.get("versions") else set(fleet.retiring)
    keep = {*fleet.workers, *(name for name in fleet.retiring if name in known)}
    return [
        each.role
        for each in seen
        if not each.gone and each.role.startswith("worker-") and (each.lost or each.role not in keep)
    ]


def note_silence(
    session: Session,
    workload: WorkloadRow,
    row: ClusterRow,
    now: datetime,
    listening_since: datetime,
    interval_s: float,
) -> None:
    if workload.phase != Phase.READY.value or row.reported_at is None:
        return
    patience = max(SILENT_S, 3 * interval_s)
    if (now - max(row.reported_at, listening_since)).total_seconds() > patience:
        reason = f"Nothing was heard of it for {patience:.0f} s, though its processes run. It is ready again once its agent reports."
        lifecycle.enter(session, workload, Phase.STARTING, now=now, code="cluster.silent", reason=reason)
