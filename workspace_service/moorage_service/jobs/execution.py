"""One step for one run: queued, admitted, its cluster ready, its process started, observed, ended.

Level-triggered: each call looks at the store and at the shim's record, does at most one thing, and may be repeated at
any point. Whatever happens, a run that ends asks its cluster to end in the same transaction.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, aliased

from moorage.wire import Phase
from moorage_jobs.errors import SnapshotMissingError
from moorage_service.context import Context
from moorage_service.identity.tokens import issue_token
from moorage_service.identity.users import gid_of
from moorage_service.jobs import admittance, launch, own_cluster, runs
from moorage_service.jobs.conclusion import CONCLUDED, OVERDUE, clock_time, conclude, end_in
from moorage_service.jobs.ending import Ending
from moorage_service.ledger import admission
from moorage_service.projects import secrets
from moorage_service.recovery import cards
from moorage_service.store.chunks import rows_among
from moorage_service.store.tables import (
    JobVersionRow,
    ProjectRow,
    RunRow,
    TokenRow,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import LaunchError, Observation
from moorage_spawners.launch.crash_points import reach
from moorage_spawners.shim import tree

log = logging.getLogger(__name__)

INSTANCE = token_hex(8)  # of this service process
_START_LEASE_S = 30.0
_OVERDUE_S = 300.0  # beyond a run's own limit: its runner should have ended it long ago
_STOP_EXTRA_S = 15.0  # beyond the platform's grace: interrupting, saving and sending what was done
_WAITS_FOR_CLUSTER = "run.waits-for-cluster"


def survey(context: Context, live: Sequence[str]) -> Iterator[str]:
    """Those of the live runs of which something is to be noted or done."""
    cluster = aliased(WorkloadRow)
    query = (
        select(
            WorkloadRow.id, WorkloadRow.phase, WorkloadRow.target, WorkloadRow.reason_code, JobVersionRow.timeout_s,
            cluster.phase.label("cluster_phase"), cluster.target.label("cluster_target"),
        )
        .join(RunRow, RunRow.workload_id == WorkloadRow.id)
        .join(JobVersionRow, JobVersionRow.id == RunRow.version_id)
        .outerjoin(cluster, cluster.id == RunRow.cluster_id)
        .where(WorkloadRow.ended_at.is_(None))
    )  # fmt: skip
    with context.database.read() as session:
        rows = rows_among(session, query, WorkloadRow.id, live)
    waiting = []
    for row in rows:
        if row.phase == Phase.QUEUED.value and row.target == "running":
            waiting.append(row.id)
        elif not _goes_on(context, row):
            yield row.id
    yield from admittance.needy(context, waiting)


def _goes_on(context: Context, row: Any) -> bool:
    """Whether it goes on as it should: it runs, or its cluster starts."""
    if row.target != "running":
        return False
    if row.reason_code == _WAITS_FOR_CLUSTER:
        return row.cluster_target == "running" and row.cluster_phase in (Phase.PENDING.value, Phase.STARTING.value)
    if row.phase != Phase.RUNNING.value:
        return False
    seen = _runner_of(context, row.id)
    return seen is not None and seen.state == "running" and not _overdue(seen, row.timeout_s)


def step(context: Context, run_id: str) -> None:
    """Registered with the reconciler for workloads of kind run."""
    seen = _runner_of(context, run_id)
    with context.database.read() as session:
        workload = session.get(WorkloadRow, run_id)
    if workload is None or workload.ended_at is not None:
        return
    if CONCLUDED in workload.details or (seen is not None and seen.gone):
        conclude(context, run_id, seen)
    elif seen is not None:
        _attend(context, workload, seen)
    elif workload.target == "gone":
        _end_unstarted(context, run_id)
    elif workload.phase == Phase.QUEUED.value:
        admittance.admit(context, run_id)
    elif workload.phase in (Phase.PENDING.value, Phase.STARTING.value):
        _start_when_ready(context, run_id)
    else:
        _lost(context, run_id)


def _runner_of(context: Context, run_id: str) -> Observation | None:
    # One whose start was interrupted before it ran is started anew, as if it had never been asked for.
    seen = context.processes.observe(run_id)
    found = [each for each in seen if each.role == launch.ROLE and (each.started_at or not each.gone)]
    alive = [each for each in found if not each.gone]
    return next(reversed(alive or found), None)


# Admitted.


def _start_when_ready(context: Context, run_id: str) -> None:
    with context.database.begin() as session:
        workload, run, version = runs.rows_of(session, run_id)
        if workload.target != "running" or workload.ended_at is not None:
            return
        why_not = admittance.may_not_run(session, workload)
        if why_not is not None:
            end_in(session, context, workload, run, Ending(Phase.SKIPPED, "run.not-allowed", why_not))
            return
        state = own_cluster.state(session, run.cluster_id)
        if state.failed is not None:
            end_in(
                session, context, workload, run, Ending(Phase.FAILED, "run.cluster-failed", state.failed)
            )  # nothing of the run itself was started
            return
        if not state.ready:
            reason = "Waits for its cluster to be ready."
            lifecycle.enter(
                session, workload, Phase.STARTING, now=context.clock(), code=_WAITS_FOR_CLUSTER, reason=reason
            )
            return
        if not _claim_start(workload, context.clock()):
            return
        to_start = _to_start(session, context, workload, run, version)
    cards.keep(context, run_id)
    reach("run.claimed")
    try:
        spec = launch.prepare(context, to_start)
        reach("run.prepared")
        context.machine.start(spec)
    except (SnapshotMissingError, LaunchError) as error:
        _fail(context, run_id, "run.not-started", f"The run could not be started: {error}")
        return
    except OSError as error:
        _start_later(context, run_id, error)
        return
    reach("run.started")
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, run_id)
        if workload.target == "running":
            lifecycle.enter(session, workload, Phase.STARTING, now=context.clock(), code="run.starting")
    context.wakeup.notify()


def _start_later(context: Context, run_id: str, error: OSError) -> None:
    """The disk does not take what a start needs: tried at each pass until `run_disk_wait_s` has passed, then the run has failed."""
    problem = error.strerror or str(error)
    log.warning("run %s can't be started yet: %s", run_id, error)
    wait_s = context.settings.run_disk_wait_s
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, run_id)
        now = context.clock()
        until = workload.details.get("start_until") or now.timestamp() + wait_s
        if now.timestamp() <= until:
            workload.details = {**workload.details, "start_until": until}
            reason = f"It can't be started yet: {problem}. It is tried again until {clock_time(until)}."
            lifecycle.enter(session, workload, Phase.STARTING, now=now, code="run.start-delayed", reason=reason)
            return
    advice = "Ask an admin to look at the disk of the state folder, then start it again."
    _fail(context, run_id, "run.not-started", f"It could not be started for {wait_s:.0f} s: {problem}. {advice}")


def _claim_start(workload: WorkloadRow, now: datetime) -> bool:
    """A lease on starting this run, so that two services at once do not fill its folder; False while another holds it."""
    holder, until = workload.details.get("starting") or (INSTANCE, 0.0)
    if holder != INSTANCE and until > now.timestamp():
        return False
    workload.details = {**workload.details, "starting": (INSTANCE, now.timestamp() + _START_LEASE_S)}
    return True


def _to_start(
    session: Session, context: Context, workload: WorkloadRow, run: RunRow, version: JobVersionRow
) -> launch.RunToStart:
    # Nothing runs, so no earlier token of this run is of use to anybody.
    session.execute(delete(TokenRow).where(TokenRow.workload_id == workload.id))
    user = session.get_one(UserRow, workload.owner_id)
    return launch.RunToStart(
        run_id=workload.id,
        generation=workload.generation,
        token=issue_token(session, workload),
        user=user.hub_name,
        uid=user.uid,
        gid=gid_of(user),
        project=session.get_one(ProjectRow, workload.project_id).slug,
        environment=version.environment,
        source=version.source,
        notebook=version.notebook,
        declared=list(version.parameters),
        given=dict(run.parameters),
        scheduled_for=run.scheduled_for,
        secrets=secrets.values(
            session, context.vault, user_id=user.id, project_id=workload.project_id, names=list(version.secrets)
        ),
        gpus=admission.leased_gpus(session, workload.id),
        size=dict(version.size),
        cluster_id=run.cluster_id,
        timeout_s=version.timeout_s,
    )


# Started.


def _attend(context: Context, workload: WorkloadRow, seen: Observation) -> None:
    """The runner is there: it runs, or it is on its way out."""
    with context.database.read() as session:
        limit = runs.rows_of(session, workload.id)[2].timeout_s
    if _overdue(seen, limit) and OVERDUE not in workload.details:
        with context.database.begin() as session:
            row = session.get_one(WorkloadRow, workload.id)
            row.details = {**row.details, OVERDUE: limit}
    if workload.target == "gone" or seen.state == "lost" or _overdue(seen, limit):
        context.processes.stop(workload.id, grace_s=context.settings.stop_grace_s + _STOP_EXTRA_S)
        return
    if workload.phase != Phase.RUNNING.value and seen.state == "running":
        with context.database.begin() as session:
            row = session.get_one(WorkloadRow, workload.id)
            if row.target == "running":
                lifecycle.enter(session, row, Phase.RUNNING, now=context.clock(), code="run.running")


def _overdue(seen: Observation, limit: int | None) -> bool:
    """The runner keeps the run's limit by itself; this is for one that hangs. By the machine's own time: wall clocks are set."""
    started = None if limit is None or seen.pid is None else tree.started(seen.pid)
    if limit is None or started is None:
        return False
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")
    return age_s > limit + _OVERDUE_S


def _end_unstarted(context: Context, run_id: str) -> None:
    """Asked to end before its process was started."""
    with context.database.begin() as session:
        workload, run, _ = runs.rows_of(session, run_id)
        reason = workload.reason if workload.phase == Phase.STOPPING.value and workload.reason else None
        end_in(session, context, workload, run, Ending(Phase.CANCELLED, "run.cancelled", reason or "Cancelled."))
    launch.remove(context.settings, run_id)
    context.forget(run_id)
    context.wakeup.notify()


def _lost(context: Context, run_id: str) -> None:
    """It ran, and there is no record of its process: the state folder was lost or replaced."""
    _fail(context, run_id, "run.lost", "There is no record of its process any more. Start it again.")


def _fail(context: Context, run_id: str, code: str, reason: str) -> None:
    with context.database.begin() as session:
        workload, run, _ = runs.rows_of(session, run_id)
        end_in(session, context, workload, run, Ending(Phase.FAILED, code, reason))
    launch.remove(context.settings, run_id)
    context.forget(run_id)
    context.wakeup.notify()
