"""What a notebook says of itself while it runs, or its cluster of it: its owner is told, and what it holds it goes on holding."""

from sqlalchemy.orm import Session

from moorage.wire import NotebookCondition, Phase, WorkloadKind
from moorage_service.context import Context
from moorage_service.errors import Forbidden
from moorage_service.identity.callers import Caller
from moorage_service.identity.rates import Action
from moorage_service.ledger.resources import in_words
from moorage_service.store.tables import WorkloadRow
from moorage_service.workloads import lifecycle

# What a cluster says of a notebook that runs: it may pass, or it is about to end.
PASSING = ("pod.node_silent", "pod.node_lost", "pod.drained", "pod.preempted")
HOME_FULL = "volume.full"
FULL = "Your home is full: what is written to it now is lost. Delete something in it, or ask an admin for more."
PASSED = "That has passed."


def receive(context: Context, caller: Caller, condition: NotebookCondition) -> None:
    """Raises Forbidden for a workload that is no notebook, TooManyRequests."""
    if caller.workload_kind != WorkloadKind.NOTEBOOK.value or caller.workload_id is None:
        raise Forbidden("Only a notebook's server reports here, with the notebook's own token.")
    context.rates.count(Action.REPORT, user_id=caller.workload_id)
    with context.database.begin() as session:
        workload = session.get(WorkloadRow, caller.workload_id)
        if workload is None or workload.ended_at is not None or workload.target != "running":
            return
        note_killed(session, context, workload, condition.out_of_memory)
        if workload.reason_code in PASSING:
            return  # that is worse; a full home is reported again
        tell(
            session,
            context,
            workload,
            *((HOME_FULL, FULL) if condition.home_full else (None, None)),
            among=(HOME_FULL,),
        )


def note_killed(session: Session, context: Context, workload: WorkloadRow, killed: int) -> None:
    """A kernel was killed by the size's limit, and the server lives on: its owner is told, once for each time."""
    if workload.details.get("out_of_memory", 0) >= killed:
        return
    workload.details = {**workload.details, "out_of_memory": killed}
    limit = in_words("memory", workload.details["size"]["memory"])
    times = "" if killed == 1 else f" That was the case {killed} times so far."
    reason = (
        f"It used more than its {limit}, so the system ended one of its kernels or programs, and what that held is gone."
        f"{times} Use less at once, or stop the notebook and start it with more memory."
    )
    phase = Phase(workload.phase)
    lifecycle.enter(session, workload, phase, now=context.clock(), code="notebook.out_of_memory", reason=reason)


def tell(
    session: Session, context: Context, workload: WorkloadRow, code: str | None, reason: str | None, *, among: tuple[str, ...]
) -> None:  # fmt: skip
    """What is so just now, of those that `among` names; None: none of them is any more."""
    told = workload.reason_code if workload.reason_code in among else None
    if code == told:
        return
    now, phase = context.clock(), Phase(workload.phase)
    lifecycle.enter(session, workload, phase, now=now, code=code, reason=reason)
    if code is None:
        lifecycle.record(session, workload.id, f"notebook.{phase.value}", PASSED, now=now)
