"""The end of a run: what it held is given back at once, what it left is kept, and only then has it ended.

A process that is gone holds nothing, whatever becomes of its files: so where the disk does not take the outputs, the run
gives back what it held, ends its cluster, says so, and tries again until `run_disk_wait_s` has passed. Then it has failed,
and what it left stays in its scratch folder, for an admin; the next start of the service tries once more.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Phase, codec
from moorage.wire.workloads import Size
from moorage_service.context import Context
from moorage_service.jobs import launch, outputs, own_cluster, runs, salvage
from moorage_service.jobs.ending import Ending, ending_of, without_its_output
from moorage_service.store.chunks import rows_among
from moorage_service.store.tables import RunRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Observation
from moorage_spawners.launch.crash_points import reach

log = logging.getLogger(__name__)

CONCLUDED = "concluded"  # in a workload's details: how the run ended, while its outputs are not saved yet
OVERDUE = "overdue"  # in a workload's details: its limit, when its runner did not keep it, and was ended for that
SPOOL = "spool"  # in a workload's details: it ended, and its scratch folder holds what could not be saved
_SAME_MOMENT = timedelta(seconds=5)  # between a process's end and our seeing it: then the end is now


def conclude(context: Context, run_id: str, seen: Observation | None) -> None:
    """The runner is gone, and all that it started; `seen` may be None once that was noted. May be called again at any point."""
    reach("run.concluding")
    problem = _save(context, run_id)
    if problem is None or _waited_long(context, run_id, seen, problem):
        _end(context, run_id, seen, problem)


def end_in(session: Session, context: Context, workload: WorkloadRow, run: RunRow, ending: Ending) -> None:
    """The run has ended, in the caller's transaction, and its cluster is asked to. Nothing of it runs."""
    run.outcome = ending.phase.value
    now = context.clock()
    own_cluster.ask_to_end(session, run.cluster_id, now=now)
    lifecycle.ended(session, workload, ending.phase, now=ending.at or now, code=ending.code, reason=ending.reason)


def remove_leftovers(context: Context) -> None:
    """Removes the scratch folders of runs that ended just before the service did. Called once, as the service starts.

    What could not be saved when its run ended is saved now, if the disk takes it. One that can't be handled keeps no other.
    """
    there = {path.name for path in (context.settings.state / "scratch").glob("run-*")}
    query = select(WorkloadRow.id).where(WorkloadRow.ended_at.is_not(None))
    with context.database.read() as session:
        ended = [row.id for row in rows_among(session, query, WorkloadRow.id, there)]
    for run_id in ended:
        try:
            _remove_leftover(context, run_id)
        except Exception:
            log.exception(
                "what run %s left can't be removed; it stays in %s", run_id, launch.scratch(context.settings, run_id)
            )


def _remove_leftover(context: Context, run_id: str) -> None:
    with context.database.read() as session:
        details = session.scalars(select(WorkloadRow.details).where(WorkloadRow.id == run_id)).one()
    if details.get(SPOOL) and not _saved_after_all(context, run_id):
        return
    launch.remove(context.settings, run_id)
    context.forget(run_id)


def clock_time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S} UTC"


def _save(context: Context, run_id: str) -> str | None:
    """Keeps what the run left. What hindered it, in words, or None."""
    settings = context.settings
    try:
        salvage.outputs_of(settings, run_id)
        outputs.keep_log(settings, run_id, context.machine.log_path(run_id, launch.ROLE))
        outputs.remove_parts(settings, run_id)
    except OSError as error:
        log.info("the outputs of run %s can't be saved: %s", run_id, error)
        return error.strerror or str(error)
    return None


def _waited_long(context: Context, run_id: str, seen: Observation | None, problem: str) -> bool:
    """Says that the outputs can't be saved yet; True once it was tried for long enough."""
    with context.database.begin() as session:
        workload, run, _ = runs.rows_of(session, run_id)
        if workload.ended_at is not None:
            return False
        if CONCLUDED not in workload.details:
            _give_back(context, session, workload, run, seen)
        until: float = workload.details[CONCLUDED]["until"]
        reason = f"Its process has ended, but its outputs can't be saved: {problem}. It is tried again until {clock_time(until)}."
        lifecycle.enter(session, workload, Phase.STOPPING, now=context.clock(), code="run.saving", reason=reason)
    return context.clock().timestamp() > until


def _give_back(
    context: Context, session: Session, workload: WorkloadRow, run: RunRow, seen: Observation | None
) -> None:
    now = context.clock()
    ending = _seen_ending(context, session, workload, run, seen)
    at = ending.at or now
    kept = {"phase": ending.phase.value, "code": ending.code, "reason": ending.reason, "at": at.timestamp()}
    until = now.timestamp() + context.settings.run_disk_wait_s
    workload.details = {**workload.details, CONCLUDED: {**kept, "until": until}}
    lifecycle.gone(session, workload, now=at)
    own_cluster.ask_to_end(session, run.cluster_id, now=now)


def _end(context: Context, run_id: str, seen: Observation | None, problem: str | None) -> None:
    """`problem`: why its outputs could not be saved; they stay where they are then."""
    last = salvage.progress_of(context.settings, run_id)
    with context.database.begin() as session:
        workload, run, _ = runs.rows_of(session, run_id)
        if workload.ended_at is None:
            if last is not None:
                runs.keep_progress(session, run_id, last)
            ending = _ending(context, session, workload, run, seen)
            if problem is not None:
                where = launch.scratch(context.settings, run_id)
                log.error("the outputs of run %s could not be saved (%s); they stay in %s", run_id, problem, where)
                ending = without_its_output(ending, f"its outputs could not be saved: {problem}", _ADVICE.format(where))
            left = {name: value for name, value in workload.details.items() if name != CONCLUDED}
            workload.details = left if problem is None else {**left, SPOOL: True}
            end_in(session, context, workload, run, ending)
    reach("run.concluded")
    if problem is None:
        launch.remove(context.settings, run_id)
        context.forget(run_id)
    context.wakeup.notify()


_ADVICE = "What it left stays in {}: an admin makes room and starts the service again, which saves it."


def _ending(context: Context, session: Session, workload: WorkloadRow, run: RunRow, seen: Observation | None) -> Ending:
    """How it ended: as it was seen before, else as it is seen now. No success without its notebook."""
    kept = workload.details.get(CONCLUDED)
    if kept is not None:
        ending = Ending(Phase(kept["phase"]), kept["code"], kept["reason"], datetime.fromtimestamp(kept["at"], UTC))
    else:
        ending = _seen_ending(context, session, workload, run, seen)
    if ending.phase is Phase.SUCCEEDED and "notebook.ipynb" not in outputs.names(context.settings, run.workload_id):
        return without_its_output(ending, "its notebook is not there", "Start it again; the log may say more.")
    return ending


def _seen_ending(
    context: Context, session: Session, workload: WorkloadRow, run: RunRow, seen: Observation | None
) -> Ending:
    assert seen is not None
    run.exit_code = seen.exit_code
    size = codec.parse(Size, runs.rows_of(session, workload.id)[2].size)
    stop_asked = workload.target == "gone"
    ending = ending_of(seen, run.progress, stop_asked=stop_asked, asked_why=workload.reason, memory=size.memory)
    if OVERDUE in workload.details and ending.code in ("run.interrupted", "run.runner-died"):
        reason = f"It was still there long after its limit of {workload.details[OVERDUE]} seconds, and was ended."
        ending = Ending(Phase.FAILED, "run.timeout", reason)
    return replace(ending, at=_moment(workload, seen, context.clock()))


def _moment(workload: WorkloadRow, seen: Observation, now: datetime) -> datetime:
    """When its process ended: also when nobody looked for hours. Never before it began, nor after now."""
    if seen.ended_at is None:
        return now
    recorded = datetime.fromisoformat(seen.ended_at)
    if now - recorded < _SAME_MOMENT:
        return now
    return max(recorded, workload.ready_at or workload.started_at or workload.created_at)


def _saved_after_all(context: Context, run_id: str) -> bool:
    if _save(context, run_id) is not None:
        return False
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, run_id)
        workload.details = {name: value for name, value in workload.details.items() if name != SPOOL}
        message = "Its outputs, which could not be saved when it ended, were saved now."
        lifecycle.record(session, run_id, "run.saved", message, now=context.clock())
    return True
