"""One step for one cluster: what should be, against what the platform shows. May be repeated at any time."""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import ClusterSpec, Phase
from moorage_service.clusters import lonely, mending, scaling
from moorage_service.clusters.actions import Actions, carry_out, claim_ports, fail
from moorage_service.clusters.engines import ENGINES
from moorage_service.clusters.lifetime import Clocks, Lifetime, Signals, judge
from moorage_service.clusters.operations import credentials_of, head_size, platform_of, site_of, spec_of
from moorage_service.clusters.plan import HEAD, ClusterPlan, RolePlan
from moorage_service.clusters.platforms.base import Order, Platform, Seen
from moorage_service.clusters.scaling import Fleet
from moorage_service.context import Context
from moorage_service.identity.users import identity_of
from moorage_service.ledger import admission
from moorage_service.projects import secrets
from moorage_service.store.tables import ClusterRow, ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle

log = logging.getLogger(__name__)


def survey(context: Context, live: Sequence[str]) -> Iterator[str]:
    """Those of the live clusters for which a step would do or note something, found without writing anything."""
    platform = platform_of(context)
    seen = {workload_id: _observed(platform, workload_id) for workload_id in live}
    with context.database.read() as session, session.no_autoflush:
        # Held here, so that what a decision asks for is there already.
        rows = session.scalars(select(ClusterRow).where(ClusterRow.workload_id.in_(live))).all()
        workloads = {row.id: row for row in session.scalars(select(WorkloadRow).where(WorkloadRow.id.in_(live)))}
        parents = {row.parent_id for row in workloads.values() if row.parent_id is not None}
        held = session.scalars(select(WorkloadRow).where(WorkloadRow.id.in_(parents))).all() if parents else []
        log.debug("looking at %d clusters, %d of runs", len(rows), len(held))
        alone = lonely.Cache(session)
        for row in rows:
            observed, workload = seen[row.workload_id], workloads[row.workload_id]
            if workload.ended_at is not None:
                continue
            if observed is None or _head_gone(observed):
                yield workload.id
                continue
            known = len(session.new)
            actions = _decide(session, context, workload, row, observed, alone=alone)
            if actions or len(session.new) > known or session.is_modified(workload) or session.is_modified(row):
                yield workload.id


def _observed(platform: Platform, workload_id: str) -> list[Seen] | None:
    """None when it can't be looked at: its own step finds out why."""
    try:
        return platform.observe(workload_id)
    except Exception:
        log.exception("cluster %s could not be observed", workload_id)
        return None


def step(context: Context, workload_id: str) -> None:
    """Once more after the cluster got its ports, so that it starts at once."""
    if _step(context, workload_id):
        _step(context, workload_id)


def _step(context: Context, workload_id: str) -> bool:
    platform = platform_of(context)
    seen = platform.observe(workload_id)
    tail = platform.tail(workload_id, HEAD) if _head_gone(seen) else ""

    def work(session: Session) -> Actions:
        workload = session.get(WorkloadRow, workload_id)
        if workload is None or workload.ended_at is not None:
            return Actions()
        return _decide(session, context, workload, session.get_one(ClusterRow, workload_id), seen, tail=tail)

    actions = context.database.amend(work)
    if actions.needs_ports:
        return claim_ports(context, workload_id)
    carry_out(context, platform, workload_id, actions, lambda session: _end(session, context, workload_id))
    return False


def _head_gone(seen: list[Seen]) -> bool:
    return any(each.role == HEAD and (each.gone or each.lost) for each in seen)


def _decide(
    session: Session,
    context: Context,
    workload: WorkloadRow,
    row: ClusterRow,
    seen: list[Seen],
    *,
    tail: str = "",
    alone: lonely.Cache | None = None,
) -> Actions:
    """What is to be done now. It changes the rows by what was seen, as objects only: it may be a trial."""
    _follow_parent(session, workload, context.clock())
    if workload.target == "running" and mending.head_again(session, workload, row, seen, context.clock()):
        return Actions(forgets=[HEAD])
    if workload.target == "running" and context.platform.no_clusters is not None:  # its row came from another platform
        fail(context, session, workload, "cluster.not_on_this_platform", context.platform.no_clusters)
    if workload.target == "running":
        _check_head(context, session, workload, row, seen, tail)
    if workload.target == "running":
        _check_clocks(context, session, workload, row, alone or lonely.Cache(session))
    if workload.target == "running":
        return Actions(needs_ports=True) if row.port_block is None else _run(session, context, workload, row, seen)
    return Actions(stops=[None]) if any(not each.gone for each in seen) else Actions(finish=True)


def _follow_parent(session: Session, workload: WorkloadRow, now: datetime) -> None:
    parent = None if workload.parent_id is None else session.get(WorkloadRow, workload.parent_id)
    if parent is not None and (parent.target == "gone" or parent.ended_at is not None):
        lifecycle.ask_to_end(session, workload, now=now, reason="The run that it served has ended.")


def _check_head(
    context: Context, session: Session, workload: WorkloadRow, row: ClusterRow, seen: list[Seen], tail: str
) -> None:
    head = next((each for each in seen if each.role == HEAD), None)
    if head is not None and (head.gone or head.lost):
        what = "The scheduler" if row.engine == "dask" else "The head"
        lost = "" if workload.ready_at is None else " What it held (objects, actors, futures) is lost."
        advice = (
            "Give it more memory (head) and create the cluster again."
            if head.out_of_memory
            else "Create the cluster again; its log says more."
        )
        reason = f"{what} is gone: {head.how}.{lost} {advice}" + (f" Its last lines:\n{tail}" if tail else "")
        fail(
            context,
            session,
            workload,
            "cluster.head_out_of_memory" if head.out_of_memory else "cluster.head_ended",
            reason,
        )
    elif workload.ready_at is None and context.clock() > _deadline(context, workload):
        seconds = context.settings.start_timeout_s
        reason = f"It was not ready after {seconds:.0f} s, so it was ended. {workload.reason or ''} The cluster's log says more."
        fail(context, session, workload, "cluster.start_timeout", reason)


def _deadline(context: Context, workload: WorkloadRow) -> datetime:
    """Until when it may take to become ready; time in which nobody could hear that it was does not count."""
    begun = max(workload.started_at or workload.created_at, context.started_at)
    return begun + timedelta(seconds=context.settings.start_timeout_s)


def _check_clocks(
    context: Context, session: Session, workload: WorkloadRow, row: ClusterRow, alone: lonely.Cache
) -> None:
    """Its notebook's end, idleness and age. The cluster of a run ends with its run, by no clock."""
    if workload.parent_id is not None:
        return
    settings, now, before = context.settings, context.clock(), Lifetime.from_store(workload.details)
    clocks = Clocks(
        orphan_s=settings.cluster_orphan_s, idle_s=settings.cluster_idle_s, lifetime_s=settings.cluster_lifetime_s,
        warn_s=settings.cluster_warn_s,
    )  # fmt: skip
    signals = Signals(
        now=now,
        created_at=workload.created_at,
        alone_since=alone.since(workload, before),
        idle_s=_idle_s(workload, row, now),
    )
    verdict = judge(before, signals, clocks)
    if verdict.lifetime != before:
        workload.details = {**workload.details, "lifetime": verdict.lifetime.to_store()}
    if verdict.told is not None:
        lifecycle.record(session, workload.id, *verdict.told, now=now)
    if verdict.stop is not None:
        code, reason = verdict.stop
        workload.details = {**workload.details, "stopped_by": code}
        lifecycle.ask_to_end(session, workload, now=now, reason=reason)


def _idle_s(workload: WorkloadRow, row: ClusterRow, now: datetime) -> float | None:
    """As the agent said it lately; what nobody said is not known."""
    if workload.phase != Phase.READY.value or row.reported_at is None or row.report is None:
        return None
    told: float | None = row.report.get("idle_s")
    return told if (now - row.reported_at).total_seconds() <= mending.SILENT_S else None


def _end(session: Session, context: Context, workload_id: str) -> None:
    """Nothing of it is left. Its ports and credentials are nobody's, what it held is released."""
    workload, row = session.get_one(WorkloadRow, workload_id), session.get_one(ClusterRow, workload_id)
    failure = workload.details.get("failure")
    if failure:
        phase, code, reason = Phase.FAILED, failure["code"], failure["reason"]
    else:
        code = workload.details.get("stopped_by", "cluster.stopped")
        phase, reason = Phase.STOPPED, workload.reason or "Stopped."
    row.port_block, row.sealed = None, None
    lifecycle.ended(session, workload, phase, now=context.clock(), code=code, reason=reason)


def _run(session: Session, context: Context, workload: WorkloadRow, row: ClusterRow, seen: list[Seen]) -> Actions:
    spec, now = spec_of(row), context.clock()
    if workload.phase == Phase.PENDING.value:
        admission.bind(session, workload.id)
        reason = "Its processes are being started."
        lifecycle.enter(session, workload, Phase.STARTING, now=now, code="cluster.starting", reason=reason)
    before = Fleet.from_store(row.target_workers, row.scale)
    gone = {each.role: each for each in seen if each.gone}
    fleet = mending.give_up_on_missing(session, context, workload, row, before, gone, now)
    fleet = mending.lose_workers(session, workload, fleet, gone, now)
    if scaling.hopeless(fleet, now.timestamp()) and len(fleet.workers) < spec.min_workers:
        last = mending.last_lost(gone)
        reason = f"Its workers end as soon as they start{last}, so it was given up. The cluster's log says more."
        fail(context, session, workload, "cluster.workers_fail", reason)
        return Actions(stops=[None])
    fleet = scaling.clear(fleet, gone)
    devices = admission.leased_gpus(session, workload.id) if spec.worker.gpu else []
    fleet = scaling.fill(fleet, spec, devices, now.timestamp())
    agent, row.scale = mending.agent_role(session, workload, {**row.scale, **fleet.to_store()}, gone, now)
    row.target_workers = fleet.target
    mending.note_silence(session, workload, row, now, context.started_at, context.settings.agent_interval_s)
    alive = {each.role for each in seen if not each.gone}
    missing = {HEAD, *fleet.workers, agent} - alive - set(gone)
    actions = Actions(stops=list(mending.surplus(fleet, row, seen)), forgets=scaling.forgettable(gone))
    if missing:
        actions.order = _order(session, context, workload, row, spec)
        wanted = _wanted(actions.order.plan, fleet, agent)
        actions.starts = [(role, plan, leased) for role, plan, leased in wanted if role in missing]
    return actions


def _wanted(plan: ClusterPlan, fleet: Fleet, agent: str) -> list[tuple[str, RolePlan, Sequence[str]]]:
    workers = [(name, plan.worker.named(name), fleet.gpus.get(name, ())) for name in fleet.workers]
    return [(HEAD, plan.head, ()), *workers, (agent, plan.agent, ())]


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
            "MOORAGE_PUBLIC_URL": context.settings.addresses.portal,
        },
        labels={"owner": owner.hub_name, "project": project.slug, "name": workload.name},
        secrets=secrets.values(
            session, context.vault, user_id=owner.id, project_id=project.id, names=workload.details.get("secrets")
        ),
    )  # fmt: skip
