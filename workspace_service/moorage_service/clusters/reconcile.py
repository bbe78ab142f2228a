"""One step for one cluster: what should be, against what the platform shows. May be repeated at any time."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import ClusterSpec, Phase
from moorage_service.clusters import ports, scaling
from moorage_service.clusters.engines import ENGINES
from moorage_service.clusters.operations import credentials_of, deadline_of, head_size, platform_of, site_of, spec_of
from moorage_service.clusters.plan import HEAD, ClusterPlan, RolePlan
from moorage_service.clusters.platforms.base import Order, Platform, Seen
from moorage_service.clusters.scaling import Fleet
from moorage_service.context import Context
from moorage_service.identity.users import ensure_home, identity_of
from moorage_service.ledger import admission
from moorage_service.projects import secrets
from moorage_service.store.tables import ClusterRow, ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import LaunchError

log = logging.getLogger(__name__)
SILENT_S = 30.0
LONGEST_AGENT_PAUSE_S = 60.0


@dataclass
class Actions:
    """What to do on the platform, once the transaction is over."""

    order: Order | None = None
    starts: list[tuple[str, RolePlan, Sequence[str]]] = field(default_factory=list)
    stops: list[str | None] = field(default_factory=list)
    forgets: list[str] = field(default_factory=list)
    clear: bool = False


def step(context: Context, workload_id: str) -> None:
    platform = platform_of(context)
    if not _has_ports(context, workload_id):
        return
    seen = platform.observe(workload_id)
    head = next((each for each in seen if each.role == HEAD), None)
    tail = platform.tail(workload_id, HEAD) if head is not None and (head.gone or head.lost) else ""
    with context.database.begin() as session:
        workload = session.get(WorkloadRow, workload_id)
        if workload is None or workload.ended_at is not None:
            return
        row = session.get_one(ClusterRow, workload_id)
        _follow_parent(session, workload, context.clock())
        if workload.target == "running":
            _check_head(session, context, workload, head, tail)
        if workload.target == "running":
            actions = _run(session, context, workload, row, seen)
        else:
            actions = _end(session, context, workload, row, seen)
    _carry_out(context, platform, workload_id, actions)


def _has_ports(context: Context, workload_id: str) -> bool:
    """Gives the cluster a port block of its own. False when there is none free: the cluster says so and waits."""
    settings = context.settings
    with context.database.read() as session:
        row = session.get(ClusterRow, workload_id)
        workload = session.get(WorkloadRow, workload_id)
        if row is None or workload is None or workload.ended_at is not None:
            return False
        if row.port_block is not None or workload.target == "gone":
            return True
        owner = session.get_one(UserRow, workload.owner_id)
        taken = set(session.scalars(select(ClusterRow.port_block).where(ClusterRow.port_block.is_not(None))))
    ensure_home(settings, owner)  # a user may have a cluster before their first notebook
    found = ports.first_free(settings.port_first, settings.port_blocks, taken)
    with context.database.begin() as session:
        row = session.get_one(ClusterRow, workload_id)
        if row.port_block is None:
            row.port_block = found
        if row.port_block is None:
            reason = "It waits for ports: every block of this machine is in use. Stop a cluster, or raise `port_blocks` in settings.yaml."
            workload = session.get_one(WorkloadRow, workload_id)
            lifecycle.enter(
                session, workload, Phase.PENDING, now=context.clock(), code="cluster.no_ports", reason=reason
            )
        return row.port_block is not None


def _follow_parent(session: Session, workload: WorkloadRow, now: datetime) -> None:
    parent = None if workload.parent_id is None else session.get(WorkloadRow, workload.parent_id)
    if parent is not None and (parent.target == "gone" or parent.ended_at is not None):
        lifecycle.ask_to_end(session, workload, now=now, reason="The run that it served has ended.")


def _check_head(session: Session, context: Context, workload: WorkloadRow, head: Seen | None, tail: str) -> None:
    now = context.clock()
    if head is not None and (head.gone or head.lost):
        what = "The scheduler" if session.get_one(ClusterRow, workload.id).engine == "dask" else "The head"
        advice = (
            "Give it more memory (head) and create the cluster again."
            if head.out_of_memory
            else "The cluster's log says more."
        )
        reason = f"{what} is gone: {head.how}. {advice}" + (f" Its last lines:\n{tail}" if tail else "")
        fail(
            session, workload, "cluster.head_out_of_memory" if head.out_of_memory else "cluster.head_ended", reason, now
        )
    elif workload.ready_at is None and head is not None and now.timestamp() > deadline_of(workload, context.settings):
        seconds = context.settings.start_timeout_s
        reason = f"It was not ready after {seconds:.0f} s, so it was ended. {workload.reason or ''} The cluster's log says more."
        fail(session, workload, "cluster.start_timeout", reason, now)


def fail(session: Session, workload: WorkloadRow, code: str, reason: str, now: datetime) -> None:
    """The cluster ends, and will be `failed` with this reason once it is gone."""
    if workload.target == "running":
        workload.details = {**workload.details, "failure": {"code": code, "reason": reason}}
        lifecycle.ask_to_end(session, workload, now=now, reason=reason)


def _end(session: Session, context: Context, workload: WorkloadRow, row: ClusterRow, seen: list[Seen]) -> Actions:
    if any(not each.gone for each in seen):
        return Actions(stops=[None])
    failure = workload.details.get("failure")
    if failure:
        phase, code, reason = Phase.FAILED, failure["code"], failure["reason"]
    else:
        phase, code, reason = Phase.STOPPED, "cluster.stopped", workload.reason or "Stopped."
    row.port_block, row.sealed = None, None
    lifecycle.ended(session, workload, phase, now=context.clock(), code=code, reason=reason)
    return Actions(clear=True)


def _run(session: Session, context: Context, workload: WorkloadRow, row: ClusterRow, seen: list[Seen]) -> Actions:
    spec, now = spec_of(row), context.clock()
    admission.bind(session, workload.id)
    if workload.phase == Phase.PENDING.value:
        lifecycle.enter(
            session,
            workload,
            Phase.STARTING,
            now=now,
            code="cluster.starting",
            reason="Its processes are being started.",
        )
    before = Fleet.from_store(row.target_workers, row.scale)
    gone = {each.role: each for each in seen if each.gone}
    fleet = _lose_workers(session, workload, before, gone, now)
    if scaling.hopeless(fleet, now.timestamp()) and len(fleet.workers) < spec.min_workers:
        last = _last_lost(gone)
        reason = f"Its workers end as soon as they start{last}, so it was given up. The cluster's log says more."
        fail(session, workload, "cluster.workers_fail", reason, now)
        return Actions(stops=[None])
    fleet = scaling.clear(fleet, gone)
    devices = admission.leased_gpus(session, workload.id)
    fleet = scaling.fill(fleet, spec, devices, now.timestamp())
    agent, row.scale = _agent(session, workload, {**row.scale, **fleet.to_store()}, gone, now)
    row.target_workers = fleet.target
    _note_silence(session, workload, row, now, context.started_at)
    order = _order(session, context, workload, row, spec)
    alive = {each.role for each in seen if not each.gone}
    actions = Actions(order=order)
    for role, plan, leased in _wanted(order.plan, fleet, agent):
        if role not in alive:
            actions.starts.append((role, plan, leased))
    actions.stops = list(_surplus(fleet, row, seen))
    actions.forgets = scaling.forgettable(gone)
    return actions


def _wanted(plan: ClusterPlan, fleet: Fleet, agent: str) -> list[tuple[str, RolePlan, Sequence[str]]]:
    workers = [(name, plan.worker.named(name), fleet.gpus.get(name, ())) for name in fleet.workers]
    return [(HEAD, plan.head, ()), *workers, (agent, plan.agent, ())]


def _surplus(fleet: Fleet, row: ClusterRow, seen: list[Seen]) -> list[str]:
    """Workers to end: retired ones that the engine has let go, and any that nobody asked for."""
    report = row.report or {}
    known = {worker["name"] for worker in report.get("workers", ())} if report.get("versions") else set(fleet.retiring)
    keep = {*fleet.workers, *(name for name in fleet.retiring if name in known)}
    return [
        each.role
        for each in seen
        if not each.gone and each.role.startswith("worker-") and (each.lost or each.role not in keep)
    ]


def _lose_workers(session: Session, workload: WorkloadRow, fleet: Fleet, gone: dict[str, Seen], now: datetime) -> Fleet:
    lost = [name for name in fleet.workers if name in gone]
    for name in lost:
        advice = " Larger workers may help." if gone[name].out_of_memory else ""
        message = f"{name} is gone: {gone[name].how}.{advice} Another one takes its place."
        code = "cluster.worker_out_of_memory" if gone[name].out_of_memory else "cluster.worker_lost"
        lifecycle.record(session, workload.id, code, message, now=now)
    return scaling.lose(fleet, lost, now.timestamp()) if lost else fleet


def _last_lost(gone: dict[str, Seen]) -> str:
    workers = [each for role, each in gone.items() if role.startswith("worker-")]
    return f" (the last one: {workers[-1].how})" if workers else ""


def _agent(
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


def _note_silence(
    session: Session, workload: WorkloadRow, row: ClusterRow, now: datetime, listening_since: datetime
) -> None:
    if workload.phase != Phase.READY.value or row.reported_at is None:
        return
    if (now - max(row.reported_at, listening_since)).total_seconds() > SILENT_S:
        reason = f"Nothing was heard of it for {SILENT_S:.0f} s, though its processes run. It is ready again once its agent reports."
        lifecycle.enter(session, workload, Phase.STARTING, now=now, code="cluster.silent", reason=reason)


def _order(session: Session, context: Context, workload: WorkloadRow, row: ClusterRow, spec: ClusterSpec) -> Order:
    owner = session.get_one(UserRow, workload.owner_id)
    project = session.get_one(ProjectRow, workload.project_id)
    assert workload.environment is not None
    return Order(
        cluster_id=workload.id,
        generation=workload.generation,
        plan=ENGINES[spec.engine].plan(spec, head_size(context.settings, spec), site_of(context, row)),
        environment=workload.environment,
        identity=identity_of(context.settings, owner),
        credentials=credentials_of(context, row),
        variables={
            "USER": owner.hub_name, "LOGNAME": owner.hub_name, "MOORAGE_USER": owner.hub_name, "MOORAGE_PROJECT": project.slug,
            "MOORAGE_PUBLIC_URL": context.settings.public_url,
        },
        labels={"owner": owner.hub_name, "project": project.slug, "name": workload.name},
        secrets=secrets.values(
            session, context.vault, user_id=owner.id, project_id=project.id, names=workload.details.get("secrets")
        ),
    )  # fmt: skip


def _carry_out(context: Context, platform: Platform, workload_id: str, actions: Actions) -> None:
    for role in actions.stops:
        platform.stop(workload_id, role)
    for role in actions.forgets:
        platform.forget(workload_id, role)
    if actions.order is not None and actions.starts:
        try:
            for role, plan, devices in actions.starts:
                platform.start(actions.order, role, plan, devices)
        except LaunchError as error:
            log.warning("cluster %s could not be started: %s", workload_id, error)
            with context.database.begin() as session:
                workload = session.get_one(WorkloadRow, workload_id)
                fail(session, workload, "cluster.start_failed", f"It could not be started: {error}", context.clock())
            context.wakeup.notify()
    if actions.clear:
        platform.clear(workload_id)
