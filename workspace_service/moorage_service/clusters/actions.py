"""What a step does on the platform, once its transaction is over; and what is noted when it can't be done."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Phase
from moorage_service.clusters import ports, scaling
from moorage_service.clusters.plan import RolePlan
from moorage_service.clusters.platforms.base import Order, Platform
from moorage_service.clusters.scaling import Fleet
from moorage_service.context import Context
from moorage_service.identity.homes import HomeUnusable, ensure_home
from moorage_service.recovery import cards
from moorage_service.store.tables import ClusterRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import LaunchError
from moorage_spawners.launch.crash_points import reach

log = logging.getLogger(__name__)
NO_PORTS = "It waits for ports: every block of this machine is in use. Stop a cluster, or raise `port_blocks` in settings.yaml."


@dataclass
class Actions:
    """`finish`: nothing of it is left, so what it had is cleared away, and then it has ended."""

    needs_ports: bool = False
    order: Order | None = None
    starts: list[tuple[str, RolePlan, Sequence[str]]] = field(default_factory=list)
    stops: list[str | None] = field(default_factory=list)
    forgets: list[str] = field(default_factory=list)
    finish: bool = False

    def __bool__(self) -> bool:
        return bool(self.needs_ports or self.starts or self.stops or self.forgets or self.finish)


def carry_out(
    context: Context, platform: Platform, workload_id: str, actions: Actions, end: Callable[[Session], None]
) -> None:
    """`end` notes the end in the store: after the clearing, so that whoever dies between the two finds it to do again."""
    for role in actions.stops:
        platform.stop(workload_id, role)
        reach("cluster.stopped")
    for role in actions.forgets:
        platform.forget(workload_id, role)
    if actions.order is not None and actions.starts:
        reach("cluster.planned")
        _start(context, platform, actions.order, actions.starts)
    if actions.finish:
        platform.clear(workload_id)
        reach("cluster.cleared")
        with context.database.begin() as session:
            end(session)
        reach("cluster.ended")
        context.wakeup.notify()  # ports and a place in the limits are free


def _start(
    context: Context, platform: Platform, order: Order, starts: Sequence[tuple[str, RolePlan, Sequence[str]]]
) -> None:
    cards.keep(context, order.cluster_id)
    for role, plan, devices in starts:
        try:
            platform.start(order, role, plan, devices)
            reach("cluster.started")
        except LaunchError as error:
            log.warning("cluster %s could not be started: %s", order.cluster_id, error)
            with context.database.begin() as session:
                workload = session.get_one(WorkloadRow, order.cluster_id)
                fail(context, session, workload, "cluster.start_failed", f"It could not be started: {error}")
            context.wakeup.notify()
            return
        except OSError as error:  # the disk is full, the machine out of processes: it may pass
            log.warning("%s of cluster %s can't be started now: %s", role, order.cluster_id, error)
            _put_off(context, order.cluster_id, role, error.strerror or str(error))
            return


def _put_off(context: Context, workload_id: str, role: str, why: str) -> None:
    """A worker counts as lost, so that its next attempt is later and later; all others are tried until time is up."""
    now = context.clock()
    with context.database.begin() as session:
        workload, row = session.get_one(WorkloadRow, workload_id), session.get_one(ClusterRow, workload_id)
        if workload.target != "running":
            return
        if role.startswith("worker-"):
            fleet = scaling.lose(Fleet.from_store(row.target_workers, row.scale), [role], now.timestamp())
            row.scale = {**row.scale, **scaling.clear(fleet, [role]).to_store()}
            message = f"{role} could not be started: {why}. Another one takes its place."
            lifecycle.record(session, workload_id, "cluster.worker_lost", message, now=now)
        elif workload.ready_at is None:
            reason = f"Its {role} could not be started yet: {why}. It is tried again and again."
            lifecycle.enter(session, workload, Phase.STARTING, now=now, code="cluster.start_put_off", reason=reason)


def fail(context: Context, session: Session, workload: WorkloadRow, code: str, reason: str) -> None:
    """The cluster ends, and will be `failed` with this reason once it is gone."""
    if workload.target == "running":
        workload.details = {**workload.details, "failure": {"code": code, "reason": reason}}
        lifecycle.ask_to_end(session, workload, now=context.clock(), reason=reason)


def claim_ports(context: Context, workload_id: str) -> bool:
    """Gives the cluster a port block of its own. False when there is none free: the cluster says so and waits."""
    settings = context.settings
    with context.database.read() as session:
        owner = session.get_one(UserRow, session.get_one(WorkloadRow, workload_id).owner_id)
        taken = set(session.scalars(select(ClusterRow.port_block).where(ClusterRow.port_block.is_not(None))))
    try:
        ensure_home(settings, owner)  # a user may have a cluster before their first notebook
    except HomeUnusable as error:
        with context.database.begin() as session:
            fail(context, session, session.get_one(WorkloadRow, workload_id), "cluster.home_unusable", error.message)
        return False
    found = ports.first_free(settings.port_first, settings.port_blocks, taken)

    def note(session: Session) -> bool:
        row = session.get_one(ClusterRow, workload_id)
        if row.port_block is None:
            row.port_block = found
        if row.port_block is None:
            workload = session.get_one(WorkloadRow, workload_id)
            lifecycle.enter(
                session, workload, Phase.PENDING, now=context.clock(), code="cluster.no_ports", reason=NO_PORTS
            )
        return row.port_block is not None

    return context.database.amend(note)
