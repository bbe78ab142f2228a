"""One step for one notebook: the shim's record against what should be."""

import logging

from moorage.wire import Phase
from moorage_service.context import Context
from moorage_service.errors import ServiceError
from moorage_service.ledger import admission
from moorage_service.store.tables import ProjectRow, ReservationRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Observation

log = logging.getLogger(__name__)


def step(context: Context, workload_id: str) -> None:
    observed = context.processes.observe(workload_id)
    running = [each for each in observed if each.state in ("starting", "running")]
    with context.database.begin() as session:
        workload = session.get(WorkloadRow, workload_id)
        if workload is None or workload.ended_at is not None:
            return
        if running and workload.target == "running":
            admission.bind(session, workload_id)
            if workload.phase == Phase.PENDING.value:
                lifecycle.enter(session, workload, Phase.STARTING, now=context.clock())
            return
        if not running:
            if (
                not observed
                and workload.target == "running"
                and not _lapsed(context, session.get(ReservationRow, workload_id))
            ):
                return  # admitted a moment ago: the spawner is about to start it
            phase, code, reason = _ending(workload, observed)
            lifecycle.ended(session, workload, phase, now=context.clock(), code=code, reason=reason)
        hub_name = session.get_one(UserRow, workload.owner_id).hub_name
        slug = session.get_one(ProjectRow, workload.project_id).slug
        told = bool(workload.details.get("hub_told"))
        if running:
            workload.details = {**workload.details, "hub_told": True}
    if not running:
        context.processes.forget(workload_id)
        return
    if not told:
        _tell_hub(context, hub_name, slug)
    context.processes.stop(workload_id, grace_s=context.settings.stop_grace_s)


def _lapsed(context: Context, reservation: ReservationRow | None) -> bool:
    return (
        reservation is None
        or (not reservation.bound and reservation.lease_expires_at < context.clock())
        or reservation.bound
    )


def _ending(workload: WorkloadRow, observed: list[Observation]) -> tuple[Phase, str, str]:
    failure = workload.details.get("failure")
    if failure:
        return Phase.FAILED, "notebook.failed", failure
    if workload.target == "gone":
        return Phase.STOPPED, "notebook.stopped", workload.reason or "Stopped."
    last = observed[-1] if observed else None
    if last is None:
        return (
            Phase.FAILED,
            "notebook.never_started",
            "It was admitted but never started, so what it held was given back. Start it again.",
        )
    if last.out_of_memory:
        return (
            Phase.FAILED,
            "notebook.out_of_memory",
            "It used more memory than its size allows and was ended. Start it again with more memory.",
        )
    if last.state == "lost":
        return (
            Phase.FAILED,
            "notebook.lost",
            "It ended without a record, for example by a restart of the machine. Start it again.",
        )
    if last.exit_code == 0 or last.signal in (2, 15):
        return Phase.STOPPED, "notebook.stopped", "The notebook server ended."
    how = f"signal {last.signal}" if last.signal else f"exit status {last.exit_code}"
    return (
        Phase.FAILED,
        "notebook.crashed",
        f"The notebook server ended with {how}. Its log is in the hub's page; start it again.",
    )


def _tell_hub(context: Context, hub_name: str, slug: str) -> None:
    """So that the hub's page agrees at once. If it can't be told, its own poll finds out."""
    try:
        context.hub.stop_server(hub_name, slug)
    except (ServiceError, OSError) as error:
        log.info("hub not told that notebook %s of %s stops: %s", slug, hub_name, error)
