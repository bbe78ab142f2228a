"""What agents report: readiness, workers, demand; and the orders they get in answer."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moorage.wire import AgentOrders, AgentReport, ClusterSpec, Phase
from moorage_service.clusters import scaling, tokens
from moorage_service.clusters.operations import spec_of
from moorage_service.clusters.scaling import Fleet
from moorage_service.context import Context
from moorage_service.errors import Conflict, Forbidden
from moorage_service.identity.callers import Caller
from moorage_service.identity.rates import Action
from moorage_service.settings import Settings
from moorage_service.store.tables import ClusterRow, EventRow, WorkloadRow
from moorage_service.store.text import sentence
from moorage_service.workloads import lifecycle

NEWS_S = 10.0  # between two messages of one agent in the history
KEPT_S = 15.0  # a report that says nothing new is kept so often: whoever reads the store sees that the agent lives


def receive(context: Context, caller: Caller, report: AgentReport) -> AgentOrders:
    """Raises Forbidden for a workload that is no cluster, Conflict for a report of another generation, TooManyRequests.

    Whoever owns the cluster can read its token, and what they report is written down.
    """
    context.rates.count(Action.REPORT, user_id=caller.workload_id)
    woken, orders = context.database.amend(lambda session: _take(session, context, caller, report))
    if woken:
        context.wakeup.notify()
    return orders


def _take(session: Session, context: Context, caller: Caller, report: AgentReport) -> tuple[bool, AgentOrders]:
    """Whether the reconciler should look, and the orders. The rows change by what is new, so a steady cluster costs no write."""
    settings = context.settings
    row = session.get(ClusterRow, caller.workload_id)
    if row is None:
        raise Forbidden("Only a cluster's agent reports here, with the cluster's own token.")
    workload = session.get_one(WorkloadRow, row.workload_id)
    if report.generation != workload.generation:
        raise Conflict(f"generation: {report.generation} is not this cluster's ({workload.generation}).")
    if workload.target != "running":
        return False, AgentOrders(interval_s=settings.agent_interval_s)
    now, spec = context.clock(), spec_of(row)
    before = Fleet.from_store(row.target_workers, row.scale)
    fleet = scaling.rescale(before, spec, report, idle_s=settings.scale_idle_s)
    changed = fleet != before or _left(before, row.report, report)
    missing = scaling.missing(row.scale.get("missing", {}), fleet, report, now.timestamp())
    row.target_workers, row.scale = fleet.target, {**row.scale, **fleet.to_store(), "missing": missing}
    if fleet != before:
        _tell_scaling(session, workload, before, fleet, report, now)
    if _is_news(settings, row, report, now):
        row.report, row.reported_at = asdict(report), now
    changed = _enter(session, workload, spec, report, now) or changed
    token = tokens.hand_over(session, context, caller, workload, row)
    return changed, AgentOrders(retire=scaling.orders(fleet, report), interval_s=settings.agent_interval_s, token=token)


def _is_news(settings: Settings, row: ClusterRow, report: AgentReport, now: datetime) -> bool:
    """Something other than a clock has changed, or the last one that was kept is getting old."""
    if row.report is None or row.reported_at is None:
        return True
    if (now - row.reported_at).total_seconds() >= KEPT_S * min(1.0, settings.agent_interval_s):
        return True
    return _steady(settings, row.report) != _steady(settings, asdict(report))


def _steady(settings: Settings, report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without what grows from second to second; of idleness only which bounds it has passed."""
    idle_s: float | None = report.get("idle_s")
    bounds = (0.0, settings.cluster_idle_s - settings.cluster_warn_s, settings.cluster_idle_s)
    passed = None if idle_s is None else [idle_s > 0, *(idle_s >= bound for bound in bounds[1:])]
    workers = sorted((each["name"], each["busy"]) for each in report.get("workers", ()))
    return {**report, "idle_s": passed, "workers": workers}


def _left(fleet: Fleet, last: dict[str, object] | None, report: AgentReport) -> bool:
    """Whether a retiring worker is not seen any more: its process may be ended."""
    seen = {worker.name for worker in report.workers}
    return bool(report.versions) and any(name not in seen for name in fleet.retiring) and last is not None


def _enter(session: Session, workload: WorkloadRow, spec: ClusterSpec, report: AgentReport, now: datetime) -> bool:
    if report.ready and len(report.workers) >= spec.min_workers:
        code = None if report.message is None else "cluster.message"
        message = None if report.message is None else sentence(report.message)
        is_news = workload.phase == Phase.READY.value and message not in (None, workload.reason)
        if is_news and _said_lately(session, workload, now):
            return False
        return lifecycle.enter(session, workload, Phase.READY, now=now, code=code, reason=message)
    if workload.phase not in (Phase.STARTING.value, Phase.READY.value):
        return False
    what = "scheduler" if spec.engine == "dask" else "head"
    have = len(report.workers)
    if not report.versions:
        code, reason = "cluster.head_starting", f"The {what} is starting."
        if workload.ready_at is not None:
            code, reason = "cluster.head_silent", f"The {what} does not answer its agent."
    elif have < spec.min_workers:
        code = "cluster.workers_missing"
        reason = f"The {what} answers; {have} of {spec.min_workers} workers have joined."
    else:
        code, reason = "cluster.finishing", f"The {what} and {have} workers are there; the dashboard is starting."
    return lifecycle.enter(session, workload, Phase.STARTING, now=now, code=code, reason=reason)


def _said_lately(session: Session, workload: WorkloadRow, now: datetime) -> bool:
    """A message that changes all the time is not worth a line of history each time."""
    query = select(func.max(EventRow.at)).where(EventRow.workload_id == workload.id, EventRow.code == "cluster.message")
    last = session.scalar(query)
    return last is not None and (now - last).total_seconds() < NEWS_S


def _tell_scaling(
    session: Session, workload: WorkloadRow, before: Fleet, fleet: Fleet, report: AgentReport, now: datetime
) -> None:
    if fleet.target > before.target:
        message = (
            f"Growing from {before.target} to {fleet.target} workers: the work there is could use {report.wanted}."
        )
        lifecycle.record(session, workload.id, "cluster.grows", message, now=now)
    elif fleet.target < before.target:
        names = ", ".join(name for name in fleet.retiring if name not in before.retiring)
        message = f"Shrinking from {before.target} to {fleet.target} workers: {names} had nothing to do."
        lifecycle.record(session, workload.id, "cluster.shrinks", message, now=now)
