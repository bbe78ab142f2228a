"""One step for one notebook: the shim's record against what should be."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage import folders
from moorage.wire import Phase
from moorage_service.context import Context
from moorage_service.errors import ServiceError
from moorage_service.ledger import admission
from moorage_service.notebooks import conditions
from moorage_service.notebooks.conditions import PASSING
from moorage_service.store.chunks import rows_among
from moorage_service.store.tables import ProjectRow, ReservationRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_service.workloads.hiding import hider
from moorage_spawners.launch import Observation
from moorage_spawners.launch.crash_points import reach
from moorage_spawners.launch.errors import StaleViewError, Unanswered

LOG_TAIL = 2000  # bytes

log = logging.getLogger(__name__)


def survey(context: Context, live: Sequence[str]) -> Iterator[str]:
    """Those of the live notebooks of which something is to be noted or done."""
    for workload_id, known in _known(context, live).items():
        try:
            observed = context.processes.observe(workload_id)
        except StaleViewError:
            continue  # of this one nobody knows: nothing is decided until somebody does
        except Unanswered:
            yield workload_id  # its own step meets the trouble, and comes again later and later
            continue
        if _to_do(known, observed) is not None:
            yield workload_id


def step(context: Context, workload_id: str) -> None:
    # What the store knows comes first: what was bound before we looked, and is not seen now, is gone.
    known = _known(context, [workload_id]).get(workload_id)
    if known is None:
        return
    observed = context.processes.observe(workload_id)
    do = _to_do(known, observed)
    if do is not None:
        do(context, workload_id, observed)


@dataclass(frozen=True)
class _Known:
    """Of a live notebook: is it to run, is its reservation bound, has its lease run out, is there nothing left to note, is it ready; and
    the code of what is told of it.
    """

    wanted: bool
    bound: bool
    lapsed: bool
    settled: bool
    ready: bool
    told: str | None


_Action = Callable[[Context, str, list[Observation]], None]


def _to_do(known: _Known, observed: list[Observation]) -> _Action | None:
    if any(not each.gone for each in observed):
        if not known.wanted:
            return _end_processes
        if all(each.gone or (each.state == "lost" and each.pid is None) for each in observed):
            return _give_up
        if not known.settled:
            return _bind
        if known.ready and (known.told if known.told in PASSING else None) != _hindrance(observed)[0]:
            return _note_hindrance
        return _note_memory if any(each.out_of_memory for each in observed) else None
    # Else it was admitted a moment ago: the spawner is about to start it.
    return _ended if observed or not known.wanted or known.bound or known.lapsed else None


def _known(context: Context, workload_ids: Sequence[str]) -> dict[str, _Known]:
    """Of those that live, in one look. Columns only: whatever else is wrong with a row is its own step's affair."""
    query = (
        select(
            WorkloadRow.id, WorkloadRow.target, WorkloadRow.phase, WorkloadRow.reason_code, ReservationRow.bound,
            ReservationRow.lease_expires_at,
        )
        .outerjoin(ReservationRow, ReservationRow.workload_id == WorkloadRow.id)
        .where(WorkloadRow.ended_at.is_(None))
    )  # fmt: skip
    with context.database.read() as session:
        rows = rows_among(session, query, WorkloadRow.id, workload_ids)
    now = context.clock()
    return {
        row.id: _Known(
            wanted=row.target == "running",
            bound=bool(row.bound),
            lapsed=row.lease_expires_at is None or row.lease_expires_at < now,
            settled=bool(row.bound) and row.phase != Phase.PENDING.value,
            ready=row.phase == Phase.READY.value,
            told=row.reason_code,
        )
        for row in rows
    }


def _live(session: Session, workload_id: str) -> WorkloadRow | None:
    workload = session.get(WorkloadRow, workload_id)
    return None if workload is None or workload.ended_at is not None else workload


def _bind(context: Context, workload_id: str, _observed: list[Observation]) -> None:
    with context.database.begin() as session:
        workload = _live(session, workload_id)
        if workload is None:
            return
        admission.bind(session, workload_id)
        if workload.phase == Phase.PENDING.value:
            lifecycle.enter(session, workload, Phase.STARTING, now=context.clock())


def _note_memory(context: Context, workload_id: str, observed: list[Observation]) -> None:
    killed = max(each.out_of_memory for each in observed)
    with context.database.read() as session:
        workload = _live(session, workload_id)
        if workload is None or workload.details.get("out_of_memory", 0) >= killed:
            return
    with context.database.begin() as session:
        workload = _live(session, workload_id)
        if workload is not None:
            conditions.note_killed(session, context, workload, killed)


def _hindrance(observed: Sequence[Observation]) -> tuple[str | None, str | None]:
    """Code and sentence of what is said of a running notebook just now."""
    said = ((each.reason, each.message) for each in observed if not each.gone and each.reason in PASSING)
    return next(said, (None, None))


def _note_hindrance(context: Context, workload_id: str, observed: list[Observation]) -> None:
    with context.database.begin() as session:
        workload = _live(session, workload_id)
        if workload is not None and workload.phase == Phase.READY.value:
            conditions.tell(session, context, workload, *_hindrance(observed), among=PASSING)


def _give_up(context: Context, workload_id: str, observed: list[Observation]) -> None:
    """The server is dead, and so is its shim, but something that it started still runs: that must end first."""
    with context.database.begin() as session:
        workload = _live(session, workload_id)
        if workload is None:
            return
        said = next((each.message for each in observed if each.reason is not None), None)
        reason = said or "The notebook server and the process that watched it were killed. Start it again."
        workload.details = {**workload.details, "failure": reason}
        lifecycle.ask_to_end(session, workload, now=context.clock(), reason=reason)
    context.wakeup.notify()


def _end_processes(context: Context, workload_id: str, _observed: list[Observation]) -> None:
    """Asked again at each pass, until nothing runs: asking is cheap, and what asked before may have died."""
    context.processes.stop(workload_id, grace_s=context.settings.stop_grace_s)
    reach("notebook.stop_asked")
    with context.database.read() as session:
        workload = session.get_one(WorkloadRow, workload_id)
        told = bool(workload.details.get("hub_told"))
        hub_name = session.get_one(UserRow, workload.owner_id).hub_name
        slug = session.get_one(ProjectRow, workload.project_id).slug
    if told:
        return
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, workload_id)
        workload.details = {**workload.details, "hub_told": True}
    _tell_hub(context, hub_name, slug)


def _ended(context: Context, workload_id: str, observed: list[Observation]) -> None:
    tail = _log_tail(context, observed)
    folders.remove(context.settings.state / "scratch" / workload_id, ignore_errors=True)  # the server's own folder
    with context.database.begin() as session:
        workload = _live(session, workload_id)
        if workload is None:
            return
        phase, code, reason = _ending(workload, observed)
        lifecycle.ended(session, workload, phase, now=context.clock(), code=code, reason=reason)
        if phase is Phase.FAILED and tail:
            lifecycle.record(session, workload_id, "notebook.log", tail, now=context.clock())
        unheard = context.pods is not None and not workload.details.get(
            "hub_told"
        )  # of a namespace that is gone it never hears
        hub_name = session.get_one(UserRow, workload.owner_id).hub_name
        slug = session.get_one(ProjectRow, workload.project_id).slug
    reach("notebook.ended")
    if unheard:  # first: a cluster may be slow or refuse to forget, and whoever starts again meanwhile must not be stopped for this one
        _tell_hub(context, hub_name, slug)
    context.forget(workload_id)


def _log_tail(context: Context, observed: list[Observation]) -> str:
    """The log goes with the processes' records; its end stays in the history, for its owner."""
    if not observed:
        return ""
    last = observed[-1]
    tail = context.processes.log_tail(last.workload_id, last.role, LOG_TAIL).decode(errors="replace")
    return hider(context, last.workload_id)(tail)


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
    if last.out_of_memory and last.signal == signal.SIGKILL:  # else it was a kernel, maybe long ago
        return (
            Phase.FAILED,
            "notebook.out_of_memory",
            "It used more memory than its size allows and was ended. Start it again with more memory.",
        )
    if last.machine_restarted:
        return (
            Phase.STOPPED,
            "notebook.machine_restarted",
            "The machine was restarted, which ended it. Files are as they were; what kernels held in memory is gone. Start it again.",
        )
    if last.exit_code is None and last.signal is None:
        return (
            Phase.FAILED,
            last.reason or "notebook.lost",
            last.message or "It ended without a record, for example by a restart of the machine. Start it again.",
        )
    in_order = last.exit_code == 0 or last.signal in (2, 15)
    if in_order and last.reason in (None, "pod.crashed"):
        return Phase.STOPPED, "notebook.stopped", "The notebook server ended."
    # A cluster says more than an exit status, and an end in good order need not have been asked for.
    if last.reason is not None and last.message:
        return Phase.FAILED, last.reason, last.message
    how = f"signal {last.signal}" if last.signal else f"exit status {last.exit_code}"
    return (
        Phase.FAILED,
        "notebook.crashed",
        f"The notebook server ended with {how}. The end of its log is below; start it again.",
    )


def _tell_hub(context: Context, hub_name: str, slug: str) -> None:
    """So that the hub's page agrees at once. If it can't be told, its own poll finds out."""
    try:
        context.hub.stop_server(hub_name, slug)
    except (ServiceError, OSError) as error:
        log.info("hub not told that notebook %s of %s stops: %s", slug, hub_name, error)
