"""What runs and the store does not know: adopted, ended or left, as `unknown_workloads` says; and said, whichever it is.

It comes to that when the store was lost, or restored from a copy that is older than what runs. `settle` is called whenever a service
begins to act: before it answers anybody, or as it takes over from another. What runs is looked for again with each look for orphans.
"""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Phase, WorkloadKind
from moorage_service.context import Context
from moorage_service.jobs import outputs
from moorage_service.jobs.schedules import schedule_of, timetable
from moorage_service.recovery import adoption, cards, owners
from moorage_service.store.chunks import rows_among
from moorage_service.store.database import FAILURES
from moorage_service.store.locks import lock
from moorage_service.store.tables import AuditRow, ClusterRow, JobRow, QuarantineRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Observation
from moorage_spawners.launch.errors import LaunchError, Unanswered
from moorage_spawners.shim import files

ACTOR = "moorage"  # in the audit: nobody asked for it
UNKNOWN = (LaunchError, Unanswered)  # a cluster does not say, or refuses: one workload is looked at later, and hinders no other

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """The store is a copy: of when, and put back when."""

    made_at: datetime
    restored_at: datetime

    @classmethod
    def read(cls, path: Path) -> "Restored | None":
        found = files.read(str(path))
        if found is None:
            return None
        return cls(datetime.fromisoformat(found["made_at"]), datetime.fromisoformat(found["restored_at"]))

    def write(self, path: Path) -> None:
        files.write(str(path), {"made_at": self.made_at.isoformat(), "restored_at": self.restored_at.isoformat()})


def mark_of(state: Path) -> Path:
    """Where `moorage admin restore` leaves word for the next start."""
    return state / "database" / "restored.json"


def settle(context: Context) -> None:
    """As a service begins to act: what runs is known again, or ended; a store that was restored is brought up to what runs."""
    mark = mark_of(context.settings.state)
    restored = Restored.read(mark)
    if restored is not None:
        _catch_up(context, restored)
    settle_unknown(context, cards.cards_of(context).workload_ids())
    if context.settings.unknown_workloads == "adopt":
        with context.database.begin() as session:
            owners.know_again(session, context.settings.state, now=context.clock())
    with context.database.read() as session:
        owners.keep_all(session, context.settings.state)
    if restored is not None:
        mark.unlink()
    for workload_id in _live(context):  # those of an earlier version, and what changed while nobody kept the cards
        with suppress(*UNKNOWN):
            if context.processes.observe(workload_id):
                cards.keep(context, workload_id)


def unknown(context: Context, ids: Iterable[str]) -> list[str]:
    """Of these workloads, those that the store does not know."""
    asked = list(ids)
    with context.database.read() as session:
        known = {row.id for row in rows_among(session, select(WorkloadRow.id), WorkloadRow.id, asked)}
    return [workload_id for workload_id in asked if workload_id not in known]


def settle_unknown(context: Context, ids: Iterable[str]) -> None:
    """Does as the policy says with each of these that the store does not know."""
    for workload_id in unknown(context, ids):
        try:
            observed = context.processes.observe(workload_id)
            match context.settings.unknown_workloads:
                case "adopt":
                    _adopt(context, workload_id, observed)
                case "end":
                    _end(context, workload_id, observed)
                case "leave":
                    _say(context, workload_id, "workload.left", _left_alone(observed))
        except UNKNOWN as error:
            log.warning("%s is looked at later: %s", workload_id, error)


def _adopt(context: Context, workload_id: str, observed: list[Observation]) -> None:
    card = cards.cards_of(context).read(workload_id, cards.NAME)
    if card is None and not any(not each.gone for each in observed):
        return  # the folder of something that never began, or of another version that has ended
    try:
        if card is None:
            raise adoption.BadCardError("it has no card that can be read")
        rows = adoption.parse(card)
        with context.database.begin() as session:
            lock(session, ["adoption", "users"])
            if _said(session, "workload.adopted", workload_id):
                return  # by another service, a moment ago
            now = context.clock()
            said = adoption.adopt(session, context, workload_id, rows, observed)
            lifecycle.record(session, workload_id, "workload.adopted", said, now=now)
            session.add(AuditRow(at=now, actor=ACTOR, action="workload.adopted", target=workload_id, why=said))
            _out_of_quarantine(session, workload_id)
    except FAILURES:
        raise
    except Exception as error:  # whatever is wrong with one card: the others are adopted, and the service starts
        if not isinstance(error, adoption.BadCardError):
            log.exception("%s can't be adopted", workload_id)
        words = str(error) if isinstance(error, adoption.BadCardError) else "its card does not fit the store"
        _quarantine(
            context, workload_id, f"It runs, but can't be known again: {words}. End it with `make down`, or by hand."
        )
        return
    log.warning("%s: %s", workload_id, said)
    cards.keep(context, workload_id)
    context.wakeup.notify()


def _end(context: Context, workload_id: str, observed: list[Observation]) -> None:
    if any(not each.gone for each in observed):
        context.processes.stop(workload_id, grace_s=context.settings.stop_grace_s)
        what = ", ".join(sorted({each.labels.get("kind", "workload") for each in observed}))
        owner = next((each.labels["owner"] for each in observed if "owner" in each.labels), "nobody known")
        _say(
            context,
            workload_id,
            "workload.ended_unknown",
            f"A {what} of {owner} ran that the store does not know: it is ended.",
        )
        return
    context.forget(workload_id)


def _left_alone(observed: list[Observation]) -> str | None:
    if all(each.gone for each in observed):
        return None
    owner = next((each.labels["owner"] for each in observed if "owner" in each.labels), "nobody known")
    return f"Processes of it run ({owner}'s), which the store does not know: they are left alone, and count for nobody."


def _say(context: Context, workload_id: str, action: str, words: str | None) -> None:
    """Once, in the audit and the log."""
    if words is None:
        return
    with context.database.begin() as session:
        if _said(session, action, workload_id):
            return
        session.add(AuditRow(at=context.clock(), actor=ACTOR, action=action, target=workload_id, why=words))
    log.warning("%s: %s", workload_id, words)


def _said(session: Session, action: str, workload_id: str) -> bool:
    query = select(AuditRow.id).where(AuditRow.action == action, AuditRow.target == workload_id)
    return session.scalar(query.limit(1)) is not None


def _quarantine(context: Context, workload_id: str, reason: str) -> None:
    with context.database.begin() as session:
        if session.get(QuarantineRow, _key(workload_id)) is not None:
            return
        session.add(QuarantineRow(key=_key(workload_id), reason=reason, since=context.clock()))
    log.error("%s: %s", workload_id, reason)


def _out_of_quarantine(session: Session, workload_id: str) -> None:
    row = session.get(QuarantineRow, _key(workload_id))
    if row is not None:
        session.delete(row)


def _key(workload_id: str) -> str:
    return f"unknown/{workload_id}"


# A store that was restored.


def _catch_up(context: Context, restored: Restored) -> None:
    """What the copy says to be alive is compared with what is: it went on, or ended, after the copy was made."""
    when = restored.made_at.strftime("%Y-%m-%d %H:%M UTC")
    for workload_id in _live(context):
        try:
            observed = context.processes.observe(workload_id)
        except UNKNOWN as error:  # it goes on being live, and its own next step says what became of it
            log.warning("%s is looked at later: %s", workload_id, error)
            continue
        if observed:
            _go_on(context, workload_id, observed)
        else:
            _ended_meanwhile(context, workload_id, when)
    with context.database.begin() as session:
        left_out = _skip_fires(session, context.clock())
        said = f"The store is a copy made at {when}, put back at {restored.restored_at:%Y-%m-%d %H:%M UTC}. {left_out}"
        session.add(AuditRow(at=context.clock(), actor=ACTOR, action="store.restored", target="store", why=said))
    log.warning("%s", said)


def _go_on(context: Context, workload_id: str, observed: list[Observation]) -> None:
    card = cards.cards_of(context).read(workload_id, cards.NAME)
    if card is None:
        return
    try:
        with context.database.begin() as session:
            adoption.adopt(session, context, workload_id, adoption.parse(card), observed)
    except FAILURES:
        raise
    except Exception:  # what the copy knows of it has to do
        log.exception("the card of %s does not fit the restored store", workload_id)


def _ended_meanwhile(context: Context, workload_id: str, when: str) -> None:
    """Nothing of it is there. It is not begun again: whoever asked for it has seen it end, or has stopped it."""
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, workload_id)
        waits = workload.phase == Phase.QUEUED.value and not outputs.names(context.settings, workload_id)
        if waits and workload.target == "running":
            return
        kind = workload.kind
        phase = Phase.STOPPED if kind != WorkloadKind.RUN.value else Phase.FAILED
        reason = f"It ended after the copy of the store was made ({when}) that was put back; how is not known."
        cluster = session.get(ClusterRow, workload_id)
        if cluster is not None:  # what runs now may have its ports
            cluster.port_block, cluster.sealed = None, None
        lifecycle.ended(session, workload, phase, now=context.clock(), code=f"{kind}.lost", reason=reason)


def _skip_fires(session: Session, now: datetime) -> str:
    """Fires that were due between the copy and now may have been made, by what the copy does not know."""
    due = session.scalars(select(JobRow).where(JobRow.next_fire_at <= now, JobRow.archived.is_(False))).all()
    for job in due:
        schedule = schedule_of(job)
        job.next_fire_at = None if schedule is None or schedule.paused else timetable(schedule).next_after(now)
    if not due:
        return "No schedule was due since."
    names = ", ".join(job.name for job in due[:10]) + (" and more" if len(due) > 10 else "")
    return f"Fires that were due since are not made again, for they may have been: see the runs of {names}."


def _live(context: Context) -> list[str]:
    with context.database.read() as session:
        return list(session.scalars(select(WorkloadRow.id).where(WorkloadRow.ended_at.is_(None))))
