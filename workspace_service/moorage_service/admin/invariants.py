"""The invariants, each a function from facts to findings. Pure: what is found twice in a row is really so (`check.examine`)."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from moorage.wire import Phase, WorkloadKind
from moorage_service.admin import admissions
from moorage_service.admin.facts import Facts
from moorage_service.admin.findings import Finding
from moorage_service.jobs.conclusion import CONCLUDED
from moorage_service.ledger.resources import Amounts, in_words
from moorage_service.store.tables import WorkloadRow
from moorage_spawners.launch import Observation

SETTLE_S = 60.0  # what is under way may take so long beyond its own deadline
CLOCKS_S = 2.0  # the shims' times are whole seconds
LONGEST_BUILD_S = 3 * 3600.0
REPAIR = "Run `moorage admin check --repair`."
LOG = "The service's log says more; if nothing there explains it, restart the service."

Invariant = Callable[[Facts], Iterator[Finding]]


def no_orphan(facts: Facts) -> Iterator[Finding]:
    """I1: what exists has a live record, and what is recorded as running exists."""
    yield from _stray_processes(facts)
    yield from _stray_folders(facts)
    for row in facts.clusters.values():
        workload = facts.workloads.get(row.workload_id)
        if row.port_block is not None and (workload is None or workload.ended_at is not None):
            what = f"Cluster {row.workload_id} has ended and still holds port block {row.port_block}."
            yield Finding(
                invariant="I1", code="orphan.ports", subject=row.workload_id, what=what, remedy=REPAIR, repairable=True
            )
    for token in facts.tokens:
        workload = facts.workloads.get(token.workload_id)
        if workload is None or workload.ended_at is not None:
            what = f"A token of {token.workload_id} is kept, though that workload has ended; it admits nobody."
            yield Finding(
                invariant="I1", code="orphan.token", subject=token.hash, what=what, remedy=REPAIR, repairable=True
            )
    yield from _missing_processes(facts)


def _stray_processes(facts: Facts) -> Iterator[Finding]:
    for workload_id in facts.processes:
        running = facts.running(workload_id)
        if not running or _is_live(facts, workload_id):
            continue
        roles = ", ".join(sorted({seen.role for seen in running}))
        if workload_id in facts.known:
            what = f"{workload_id} has ended, but processes of it run ({roles})."
            yield Finding(
                invariant="I1", code="orphan.processes", subject=workload_id, what=what, remedy=REPAIR, repairable=True
            )
        else:
            what = f"Processes of {workload_id} run ({roles}), which the store does not know."
            remedy = "If the database was restored from a backup, restart the service: it adopts or ends them, by its settings."
            yield Finding(invariant="I1", code="orphan.unknown", subject=workload_id, what=what, remedy=remedy)


def _stray_folders(facts: Facts) -> Iterator[Finding]:
    for workload_id, folders in facts.groups.items():
        if not facts.processes.get(workload_id) and not _is_live(facts, workload_id):
            what = f"A control group of {workload_id} is left: {folders[0]}."
            yield Finding(
                invariant="I1", code="orphan.cgroup", subject=workload_id, what=what, remedy=REPAIR, repairable=True
            )
    live = {row.id for row in facts.live} | {row.id.rpartition("-")[2] for row in facts.live}
    ended = {each for row in facts.workloads.values() for each in (row.id, row.id.rpartition("-")[2])}
    for name, path in facts.scratch.items():
        if name in live or name in facts.unsaved:
            continue
        known = name in ended or name in facts.known
        what = f"The working folder {path} is left of {'a workload that has ended' if known else 'something unknown'}."
        remedy = REPAIR if known else "Look into it, and remove it if nobody needs it."
        yield Finding(
            invariant="I1", code="orphan.scratch", subject=str(path), what=what, remedy=remedy, repairable=known
        )


def _missing_processes(facts: Facts) -> Iterator[Finding]:
    """A record that says it runs, and nothing of it there."""
    for row in facts.live:
        if row.target != "running" or row.phase not in (Phase.READY.value, Phase.RUNNING.value):
            continue
        if not facts.running(row.id):
            what = f"The {row.kind} {row.name!r} ({row.id}) is {row.phase}, but no process of it runs."
            yield Finding(invariant="I1", code="record.empty", subject=row.id, what=what, remedy=LOG)


def nothing_lost(facts: Facts) -> Iterator[Finding]:
    """I2: what was accepted is in a final state, runs, or waits with a reason."""
    for row in facts.workloads.values():
        final = _phase(row) is not None and Phase(row.phase).ended
        if (row.ended_at is not None) != final:
            state = "has ended" if row.ended_at is not None else "has not ended"
            what = f"The {row.kind} {row.name!r} ({row.id}) {state}, and its phase is {row.phase!r}."
            yield Finding(invariant="I2", code="lost.phase", subject=row.id, what=what, remedy=LOG)
        if row.ended_at is not None and row.target == "running":
            what = f"The {row.kind} {row.name!r} ({row.id}) has ended, and is still meant to run."
            yield Finding(invariant="I2", code="lost.target", subject=row.id, what=what, remedy=LOG)
    for made in facts.created:
        if made.action == "cluster" or made.action.startswith("run:"):
            there = made.result in facts.workloads or made.created_at < facts.now - admissions.LOOK_BACK
            if not there:
                what = f"A request ({made.action}) was answered with {made.result}, of which there is no record."
                yield Finding(invariant="I2", code="lost.workload", subject=made.result, what=what, remedy=LOG)
    for run_id in facts.unsaved:
        what = f"The outputs of run {run_id} could not be saved when it ended; they lie in {facts.scratch[run_id]}."
        remedy = "Make room on the disk of the state folder, then restart the service: it saves them as it starts."
        yield Finding(invariant="I2", code="lost.outputs", subject=run_id, what=what, remedy=remedy)
    for kind, rows in ((WorkloadKind.CLUSTER, facts.clusters), (WorkloadKind.RUN, facts.runs)):
        for row in facts.workloads.values():
            if row.kind == kind.value and row.id not in rows:
                what = f"The {row.kind} {row.name!r} ({row.id}) lacks the part of its record that says what it is."
                yield Finding(invariant="I2", code="lost.part", subject=row.id, what=what, remedy=LOG)


def no_over_admission(facts: Facts) -> Iterator[Finding]:
    """I3: at each admission all that was held fitted into every limit as it was then."""
    for over in admissions.exceeded(facts):
        what = (
            f"When {over.workload_id} was admitted ({over.at:%Y-%m-%d %H:%M:%S} UTC), {over.held} was held under the limit "
            f"that {over.rule}."
        )
        remedy = "Report this: the ledger must not let it happen. Stop what is too much."
        yield Finding(
            invariant="I3",
            code="admitted.over",
            subject=f"{over.workload_id}/{over.limit_id}",
            what=what,
            remedy=remedy,
        )


def held_while_alive(facts: Facts) -> Iterator[Finding]:
    """I4: a reservation lives exactly as long as its workload, and is released once."""
    for workload_id, held in facts.reservations.items():
        workload = facts.workloads.get(workload_id)
        running = facts.running(workload_id)
        if held.released_at is None and not _is_live(facts, workload_id):
            what = f"{workload_id} has ended, and what it held is not given back."
            yield Finding(
                invariant="I4", code="held.after_end", subject=workload_id, what=what,
                remedy=REPAIR if not running else "End its processes first; then it is given back.", repairable=not running,
            )  # fmt: skip
        if held.released_at is not None and running:
            what = f"What {workload_id} held was given back, while processes of it run."
            yield Finding(invariant="I4", code="held.too_short", subject=workload_id, what=what, remedy=REPAIR)
        if held.released_at is None:
            yield from _held_otherwise(facts, workload_id, held.amounts)
        if held.released_at is None or workload is None:
            continue
        # What a run left is seen to between the two: it holds nothing then, for nothing of it runs.
        if (
            workload.ended_at is None
            and CONCLUDED not in workload.details
            and (workload.target == "running" or facts.age_s(held.released_at) > SETTLE_S)
        ):
            what = f"What {workload_id} holds was given back, though it has not ended."
            yield Finding(invariant="I4", code="held.released_early", subject=workload_id, what=what, remedy=LOG)
        if workload.ended_at is not None and (held.released_at - workload.ended_at).total_seconds() > CLOCKS_S:
            what = f"{workload_id} ended at {workload.ended_at:%H:%M:%S}, and gave back at {held.released_at:%H:%M:%S}."
            yield Finding(invariant="I4", code="held.other_time", subject=workload_id, what=what, remedy=LOG)
        late = max((_end_of(seen) for seen in facts.processes.get(workload_id, ())), default=held.released_at)
        if (late - held.released_at).total_seconds() > CLOCKS_S:
            what = f"{workload_id} gave back what it held before its last process had ended ({late:%H:%M:%S} UTC)."
            remedy = "It is over. Find out from the log how it came about; `--repair` removes what reminds of it."
            yield Finding(
                invariant="I4", code="held.before_gone", subject=workload_id, what=what, remedy=remedy,
                repairable=not running,
            )  # fmt: skip
    for row in facts.live:
        if row.phase != Phase.QUEUED.value and row.id not in facts.reservations:
            what = f"The {row.kind} {row.name!r} ({row.id}) is {row.phase} and holds nothing: nobody is charged for it."
            yield Finding(invariant="I4", code="held.nothing", subject=row.id, what=what, remedy=LOG)


def _held_otherwise(facts: Facts, workload_id: str, amounts: Amounts) -> Iterator[Finding]:
    """What a cluster counts for its pods is what the ledger holds."""
    sizes = [seen.size for seen in facts.running(workload_id) if seen.size is not None]
    if not sizes:
        return
    counted = {"cpu": round(sum(1000 * size.cpu for size in sizes)), "memory": sum(size.memory for size in sizes)}
    counted["gpu"] = sum(size.gpu for size in sizes)
    for resource, units in counted.items():
        if units != amounts.get(resource, 0):
            held = in_words(resource, amounts.get(resource, 0))
            what = f"{workload_id} holds {held} in the ledger, and its pods ask the cluster for {in_words(resource, units)}."
            remedy = "Stop it and start it again; its pods were changed by hand, or the ledger was restored."
            yield Finding(
                invariant="I4", code="held.otherwise", subject=f"{workload_id}/{resource}", what=what, remedy=remedy
            )


def _end_of(seen: Observation) -> datetime:
    if seen.ended_at is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromisoformat(seen.ended_at.replace("Z", "+00:00"))


def nothing_twice(facts: Facts) -> Iterator[Finding]:
    """I5: one run for a fire, one workload for a key, one holder of a name, a port block or a device."""
    fires = Counter((run.job_id, run.scheduled_for) for run in facts.runs.values() if run.scheduled_for is not None)
    names = Counter((row.kind, row.owner_id, row.project_id if row.kind == "notebook" else "", row.name)
                    for row in facts.live if row.kind in ("notebook", "cluster"))  # fmt: skip
    blocks = Counter(row.port_block for row in facts.clusters.values() if row.port_block is not None)
    held = [row for row in facts.reservations.values() if row.released_at is None]
    devices = Counter(device for row in held if f"workloads/{row.workload_id}" not in facts.odd for device in row.gpus)
    roles = Counter((key, seen.role) for key in facts.processes for seen in facts.running(key))
    made = Counter((row.action, row.result) for row in facts.created if row.action == "cluster")
    for label, counted in (
        ("fire", fires), ("name", names), ("ports", blocks), ("gpu", devices), ("process", roles), ("create", made)
    ):  # fmt: skip
        for what_of, count in counted.items():
            if count > 1:
                words = " ".join(str(part) for part in what_of) if isinstance(what_of, tuple) else str(what_of)
                yield Finding(
                    invariant="I5", code=f"twice.{label}", subject=words, what=f"There are {count} of one {label}: {words}.",
                    remedy="Report this: it must not happen. Stop the one that nobody uses.",
                )  # fmt: skip


def nothing_stands_still(facts: Facts) -> Iterator[Finding]:
    """I6: nothing is on its way for longer than it may be."""
    for row in facts.live:
        deadline = _deadline_s(facts, row)
        since = _since(facts, row)
        if deadline is not None and facts.age_s(since) > deadline:
            what = f"The {row.kind} {row.name!r} ({row.id}) is {row.phase} for {facts.age_s(since):.0f} s; {deadline:.0f} s are due."
            yield Finding(invariant="I6", code=f"still.{row.phase}", subject=row.id, what=what, remedy=LOG)
    for build in facts.builds:
        if build.state == "building" and build.started_at and facts.age_s(build.started_at) > LONGEST_BUILD_S:
            what = f"Build {build.id} goes on since {build.started_at:%Y-%m-%d %H:%M} UTC."
            yield Finding(invariant="I6", code="still.building", subject=build.id, what=what, remedy="Cancel it.")
    for job in facts.jobs:
        if not job.archived and job.next_fire_at is not None and facts.age_s(job.next_fire_at) > SETTLE_S:
            what = f"Job {job.name!r} ({job.id}) was due at {job.next_fire_at:%Y-%m-%d %H:%M:%S} UTC and did not fire."
            yield Finding(invariant="I6", code="still.due", subject=job.id, what=what, remedy=LOG)


def _deadline_s(facts: Facts, row: WorkloadRow) -> float | None:
    """How long the workload may be where it is; None: for as long as it likes."""
    settings = facts.settings
    start_s = settings.start_timeout_s + SETTLE_S
    if row.target == "gone":
        # A run saves and sends what it has done before it goes.
        return settings.stop_grace_s + settings.run_report_s + 2 * SETTLE_S
    match row.phase:
        case Phase.PENDING.value:
            waits = row.kind == WorkloadKind.CLUSTER.value and row.reason_code == "cluster.no_ports"
            return None if waits else settings.admission_lease_s + SETTLE_S
        case Phase.STARTING.value if row.ready_at is None:
            return 2 * start_s if row.kind == WorkloadKind.RUN.value else max(start_s, 2 * settings.admission_lease_s)
    return None


def _since(facts: Facts, row: WorkloadRow) -> datetime:
    """When it last came somewhere, by its history."""
    return facts.told.get(row.id, row.created_at)


def said_why(facts: Facts) -> Iterator[Finding]:
    """I7: what waits, failed or ended says why, and has a history."""
    for row in facts.workloads.values():
        phase = _phase(row)
        wordless = not (row.reason or "").strip()
        settled = facts.age_s(row.created_at) > SETTLE_S
        if phase is not None and wordless and (phase.ended or (phase is Phase.QUEUED and settled)):
            what = f"The {row.kind} {row.name!r} ({row.id}) is {row.phase} and does not say why."
            yield Finding(invariant="I7", code="silent.reason", subject=row.id, what=what, remedy=LOG)
        if row.id not in facts.told and (row.ended_at is not None or settled):
            what = f"The {row.kind} {row.name!r} ({row.id}) has no history."
            yield Finding(invariant="I7", code="silent.history", subject=row.id, what=what, remedy=LOG)
    for build in facts.builds:
        if build.state in ("failed", "cancelled") and not (build.error or "").strip():
            what = f"Build {build.id} is {build.state} and does not say why."
            yield Finding(invariant="I7", code="silent.build", subject=build.id, what=what, remedy=LOG)


def readable(facts: Facts) -> Iterator[Finding]:
    """Records that this version can't read: those that the service has set aside, and those that it has not looked at yet."""
    remedy = "Start the version of Moorage that wrote it, or mend the record; the service then takes it up again."
    for key, why in facts.odd.items():
        yield Finding(invariant="Q", code="unreadable", subject=key, what=f"{key}: {why}", remedy=remedy)
    for row in facts.quarantine:
        if row.key in facts.odd:
            continue
        remedy = "Start the version of Moorage that wrote it, or mend the record; the service then takes it up again."
        yield Finding(
            invariant="Q", code="quarantined", subject=row.key, what=f"{row.key}: {row.reason}", remedy=remedy
        )


def _phase(row: WorkloadRow) -> Phase | None:
    try:
        return Phase(row.phase)
    except ValueError:
        return None


def _is_live(facts: Facts, workload_id: str) -> bool:
    row = facts.workloads.get(workload_id)
    return row is not None and row.ended_at is None


ALL: tuple[Invariant, ...] = (
    no_orphan, nothing_lost, no_over_admission, held_while_alive, nothing_twice, nothing_stands_still, said_why, readable
)  # fmt: skip
