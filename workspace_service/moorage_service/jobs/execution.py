"""One step for one run: queued, admitted, its cluster ready, its process started, observed, ended.

Level-triggered: each call looks at the store and at the shim's record, does at most one thing, and may be repeated at
any point. Whatever happens, a run that ends asks its cluster to end in the same transaction.
"""

import logging
from datetime import datetime
from secrets import token_hex

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from moorage.wire import Phase, codec
from moorage.wire.clusters import ClusterSpec
from moorage.wire.workloads import Size
from moorage_jobs.errors import SnapshotMissingError
from moorage_service.context import Context
from moorage_service.errors import LimitRefused, ServiceError
from moorage_service.identity.tokens import issue_token
from moorage_service.identity.users import gid_of
from moorage_service.jobs import launch, outputs, own_cluster, runs, salvage
from moorage_service.jobs.ending import Ending, ending_of
from moorage_service.ledger import admission
from moorage_service.ledger.resources import in_words, of_size
from moorage_service.metrics import ADMITTED
from moorage_service.projects import secrets
from moorage_service.recovery import cards
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
log = logging.getLogger(__name__)

REFUSED = "limit.refused"
INSTANCE = token_hex(8)  # of this service process
_START_LEASE_S = 30.0
_OVERDUE_S = 300.0  # beyond a run's own limit: its runner should have ended it long ago
_STOP_EXTRA_S = 15.0  # beyond the platform's grace: interrupting, saving and sending what was done


def step(context: Context, run_id: str) -> None:
    """Registered with the reconciler for workloads of kind run."""
    seen = _runner_of(context, run_id)
    with context.database.read() as session:
        workload = session.get(WorkloadRow, run_id)
    if workload is None or workload.ended_at is not None:
        return
    if seen is not None and seen.gone:
        _conclude(context, run_id, seen)
    elif seen is not None:
        _attend(context, workload, seen)
    elif workload.target == "gone":
        _end_unstarted(context, run_id)
    elif workload.phase == Phase.QUEUED.value:
        _admit(context, run_id)
    elif workload.phase in (Phase.PENDING.value, Phase.STARTING.value):
        _start_when_ready(context, run_id)
    else:
        _lost(context, run_id)


def _runner_of(context: Context, run_id: str) -> Observation | None:
    found = [each for each in context.processes.observe(run_id) if each.role == launch.ROLE]
    alive = [each for each in found if not each.gone]
    return next(reversed(alive or found), None)


# Queued.


def _admit(context: Context, run_id: str) -> None:
    """Reserves for the run and for its cluster at its maximum: both or neither."""
    try:
        with context.database.begin() as session:
            workload, run, version = _rows(session, run_id)
            now = context.clock()
            why_not = _may_not_run(session, workload)
            if why_not is not None:
                lifecycle.ended(session, workload, Phase.SKIPPED, now=now, code="run.not-allowed", reason=why_not)
                return
            if workload.details.get("waits") and _behind(session, run, workload):
                reason = "Waits for an earlier run of this job to end."
                lifecycle.enter(session, workload, Phase.QUEUED, now=now, code="run.waits", reason=reason)
                return
            amounts = of_size(codec.parse(Size, version.size))
            lease_s = context.settings.admission_lease_s
            admission.admit(session, context.capacity, workload, amounts, now=now, lease_s=lease_s)
            admission.bind(session, run_id)  # from here on this loop carries it: it ends in `lifecycle.ended`
            spec = None if version.cluster is None else codec.parse(ClusterSpec, version.cluster)
            holds = ", ".join(in_words(name, units) for name, units in amounts.items())
            reason = f"Admitted: it holds {holds}."
            if spec is not None:
                run.cluster_id = own_cluster.create(context, session, workload, spec)
                reason = f"Admitted: it holds {holds}, and its cluster starts."
            lifecycle.enter(session, workload, Phase.PENDING, now=now, code="run.admitted", reason=reason)
    except LimitRefused as refused:
        _wait_for_room(context, run_id, refused)
        return
    except ServiceError as error:  # its cluster cannot be made as it is asked for, now or later
        _fail(context, run_id, "run.cluster-refused", error.message)
        return
    ADMITTED.labels("run").inc()
    reach("run.admitted")
    context.wakeup.notify()


def _wait_for_room(context: Context, run_id: str, refused: LimitRefused) -> None:
    with context.database.begin() as session:
        workload, _, version = _rows(session, run_id)
        wanted = "room" if version.cluster is None else "room for itself and its cluster together"
        reason = f"Waits for {wanted}. {refused.message}"
        if workload.reason_code == REFUSED:
            workload.reason = reason  # who holds what changes often, and is no line of history each time
        else:
            lifecycle.enter(session, workload, Phase.QUEUED, now=context.clock(), code=REFUSED, reason=reason)


def _may_not_run(session: Session, workload: WorkloadRow) -> str | None:
    """Why the run's user may not run things in its project (any more); None if they may."""
    user = session.get_one(UserRow, workload.owner_id)
    project = session.get_one(ProjectRow, workload.project_id)
    if not user.active:
        return f"The user {user.hub_name!r}, as whom the job runs, is disabled."
    role = role_of(session, user.id, project)
    if not user.admin and RANK.get(role or "", -1) < RANK["editor"]:
        return f"{user.hub_name!r}, as whom the job runs, may not run things in project {project.slug!r} any more."
    return None


def _behind(session: Session, run: RunRow, workload: WorkloadRow) -> bool:
    earlier = session.scalar(
        select(WorkloadRow.id)
        .join(RunRow, RunRow.workload_id == WorkloadRow.id)
        .where(
            RunRow.job_id == run.job_id,
            WorkloadRow.ended_at.is_(None),
            WorkloadRow.id != workload.id,
            WorkloadRow.created_at <= workload.created_at,
        )
        .limit(1)
    )
    return earlier is not None


# Admitted.


def _start_when_ready(context: Context, run_id: str) -> None:
    with context.database.begin() as session:
        workload, run, version = _rows(session, run_id)
        if workload.target != "running" or workload.ended_at is not None:
            return
        state = own_cluster.state(session, run.cluster_id)
        if state.failed is not None:
            _end_in(
                session, context, workload, run, Ending(Phase.FAILED, "run.cluster-failed", state.failed)
            )  # nothing of the run itself was started
            return
        if not state.ready:
            reason = "Waits for its cluster to be ready."
            lifecycle.enter(
                session, workload, Phase.STARTING, now=context.clock(), code="run.waits-for-cluster", reason=reason
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
        context.processes.start(spec)
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
    reach("run.started")


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
    if workload.target == "gone" or seen.state == "lost" or _overdue(context, workload):
        context.processes.stop(workload.id, grace_s=context.settings.stop_grace_s + _STOP_EXTRA_S)
        return
    if workload.phase != Phase.RUNNING.value and seen.state == "running":
        with context.database.begin() as session:
            row = session.get_one(WorkloadRow, workload.id)
            if row.target == "running":
                lifecycle.enter(session, row, Phase.RUNNING, now=context.clock(), code="run.running")


def _overdue(context: Context, workload: WorkloadRow) -> bool:
    """The runner keeps the run's limit by itself; this is for a runner that hangs."""
    with context.database.read() as session:
        limit = _rows(session, workload.id)[2].timeout_s
    if limit is None or workload.ready_at is None:
        return False
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")
    return age_s > limit + _OVERDUE_S


def _end_unstarted(context: Context, run_id: str) -> None:
    """Asked to end before its process was started."""
    with context.database.begin() as session:
        workload, run, _ = _rows(session, run_id)
        reason = workload.reason if workload.phase == Phase.STOPPING.value and workload.reason else None
        _end_in(session, context, workload, run, Ending(Phase.CANCELLED, "run.cancelled", reason or "Cancelled."))
    context.processes.forget(run_id)
    launch.remove(context.settings, run_id)
    context.wakeup.notify()


def _lost(context: Context, run_id: str) -> None:
    """It ran, and there is no record of its process: the state folder was lost or replaced."""
    _fail(context, run_id, "run.lost", "There is no record of its process any more. Start it again.")


def _fail(context: Context, run_id: str, code: str, reason: str) -> None:
    with context.database.begin() as session:
        workload, run, _ = _rows(session, run_id)
        _end_in(session, context, workload, run, Ending(Phase.FAILED, code, reason))
    launch.remove(context.settings, run_id)
    context.wakeup.notify()


def _end_in(session: Session, context: Context, workload: WorkloadRow, run: RunRow, ending: Ending) -> None:
    run.outcome = ending.phase.value
    now = context.clock()
    own_cluster.ask_to_end(session, run.cluster_id, now=now)
    lifecycle.ended(session, workload, ending.phase, now=now, code=ending.code, reason=ending.reason)


def _rows(session: Session, run_id: str) -> tuple[WorkloadRow, RunRow, JobVersionRow]:
    run = session.get_one(RunRow, run_id)
    return session.get_one(WorkloadRow, run_id), run, session.get_one(JobVersionRow, run.version_id)
