"""How long a cluster is kept: what its owner (or an admin) says about its clocks, see `lifetime`."""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from moorage.wire import ClusterChange, WorkloadKind
from moorage.wire.clusters import OnNotebookEnd
from moorage_service.clock import optional_text, to_text
from moorage_service.clusters.lifetime import Lifetime, in_words
from moorage_service.context import Context
from moorage_service.errors import BadRequest, Conflict
from moorage_service.identity.audit import audit
from moorage_service.identity.callers import Caller
from moorage_service.settings import Settings
from moorage_service.store.tables import WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_service.workloads import operations as workloads

MONTH_S = 30 * 86400.0  # how far ahead it may be kept where clusters live without end


def first(caller: Caller, wanted: OnNotebookEnd | None, project_id: str) -> Lifetime:
    """Of a new cluster: one that a notebook asks for ends with it, one from elsewhere is kept, unless asked otherwise."""
    notebook = caller.project_id if caller.workload_kind == "notebook" else None
    return Lifetime(
        on_notebook_end=wanted or ("stop" if notebook is not None else "keep"),
        follows=tuple(dict.fromkeys(filter(None, (notebook, project_id)))),
    )


def change(context: Context, caller: Caller, cluster_id: str, wanted: ClusterChange) -> None:
    """Raises NotFound, BadRequest, and Conflict for one that ends, or that ends with its run."""
    check(context.settings, wanted)
    with context.database.begin() as session:
        workload = workloads.find_own(session, caller, cluster_id, kind=WorkloadKind.CLUSTER)
        if workload.target == "gone":
            raise Conflict(f"Cluster {workload.name!r} is {workload.phase}, so it can't be kept. Create another one.")
        if workload.parent_id is not None:
            raise Conflict(
                f"Cluster {workload.name!r} serves a run and ends with it. Change the run's timeout instead."
            )
        now, before = context.clock(), Lifetime.from_store(workload.details)
        after = _changed(before, wanted, now)
        if after == before:
            return
        workload.details = {**workload.details, "lifetime": after.to_store()}
        _tell(session, caller, workload, before, after, wanted, now)
    context.wakeup.notify()


def check(settings: Settings, wanted: ClusterChange) -> None:
    """Raises BadRequest for a time that is none, or too far ahead."""
    if wanted.keep_for_s is None:
        return
    most = settings.cluster_lifetime_s or MONTH_S
    if not math.isfinite(wanted.keep_for_s) or not 0 <= wanted.keep_for_s <= most:
        raise BadRequest(
            f"keep_for_s: {wanted.keep_for_s} is out of range. Give seconds from 0 to {most:.0f} ({in_words(most)}); "
            "it can be kept again later.",
            field="keep_for_s",
        )


def _changed(before: Lifetime, wanted: ClusterChange, now: datetime) -> Lifetime:
    """An end that was announced is off when this puts it off; the next look announces the later one in its time."""
    after = before
    if wanted.on_notebook_end is not None:
        after = replace(after, on_notebook_end=wanted.on_notebook_end)
    if wanted.keep_for_s is not None:
        until = now + timedelta(seconds=wanted.keep_for_s)
        after = replace(after, keep_until=until if wanted.keep_for_s else None)
    ending = after.ending
    if ending is not None and (
        (after.keep_until is not None and ending.at < after.keep_until)
        or (ending.rule == "notebook" and after.on_notebook_end == "keep")
    ):
        after = replace(after, ending=None)
    return after


def _tell(
    session: Session,
    caller: Caller,
    workload: WorkloadRow,
    before: Lifetime,
    after: Lifetime,
    wanted: ClusterChange,
    now: datetime,
) -> None:
    parts = []
    if after.on_notebook_end != before.on_notebook_end:
        parts.append(
            "It ends with its notebook." if after.on_notebook_end == "stop" else "It goes on when its notebook ends."
        )
    if after.keep_until != before.keep_until:
        kept = (
            f"No clock ends it for {in_words(wanted.keep_for_s or 0)}."
            if after.keep_until
            else "Its clocks count again."
        )
        parts.append(kept)
    lifecycle.record(session, workload.id, "cluster.kept", " ".join(parts), now=now, actor=caller.name)
    if workload.owner_id != caller.user_id:
        audit(
            session, caller, "cluster.keep", workload.id, before=_facts(before), after=_facts(after), now=now,
        )  # fmt: skip


def _facts(life: Lifetime) -> dict[str, Any]:
    return {"on_notebook_end": life.on_notebook_end, "keep_until": optional_text(life.keep_until)}


def follow(context: Context, caller: Caller, cluster_id: str) -> None:
    """A notebook of another project has attached to it: it is the cluster's notebook, too."""
    project = caller.project_id

    def note(session: Session) -> None:
        workload = session.get_one(WorkloadRow, cluster_id)
        life = Lifetime.from_store(workload.details)
        if project is not None and project not in life.follows and workload.target == "running":
            life = replace(life, follows=(*life.follows, project))
            workload.details = {**workload.details, "lifetime": life.to_store()}

    if caller.workload_kind == "notebook":
        context.database.amend(note)


def fields(workload: WorkloadRow) -> dict[str, Any]:
    """Those of `moorage.wire.Cluster` that say when it ends."""
    life = Lifetime.from_store(workload.details)
    ending = life.ending if workload.target == "running" else None
    return {
        "on_notebook_end": life.on_notebook_end,
        "keep_until": optional_text(life.keep_until),
        "stops_at": None if ending is None else to_text(ending.at),
        "stops_why": None if ending is None else ending.why,
    }
