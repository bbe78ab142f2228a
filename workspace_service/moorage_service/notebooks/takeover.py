"""After a restart of the hub: a notebook that runs and that the hub has forgotten is taken over, one it never started given up."""

from moorage.wire import NotebookAdmission, NotebookForgotten, NotebookRequest
from moorage_service.context import Context
from moorage_service.identity import users
from moorage_service.notebooks import operations
from moorage_service.notebooks.platforms.arrangement import Admitted
from moorage_service.projects.access import find_project
from moorage_service.store.tables import ReservationRow, WorkloadRow
from moorage_service.workloads import lifecycle

FORGOTTEN = "The hub was restarted while this notebook was asked for. Start it again."


def take_over(context: Context, request: NotebookRequest) -> NotebookAdmission | None:
    """The answer for a notebook of the user and project that runs; None when there is none, and a new one is to start."""
    with context.database.read() as session:
        ids = [row.id for row in operations.wanted(session, request.user, request.project)]
    running = [workload_id for workload_id in ids if _runs(context, workload_id)]
    if len(running) != 1:
        return None
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, running[0])
        if workload.ended_at is not None or workload.target != "running":
            return None
        now = context.clock()
        user = users.ensure_user(
            session, context.settings, name=request.user, admin=request.admin, groups=tuple(request.groups), clock=context.clock,
        )  # fmt: skip
        project = find_project(session, request.project, user_id=user.id, admin=user.admin, at_least="editor")
        reservation = session.get(ReservationRow, workload.id)
        if reservation is None or reservation.released_at is not None:
            return None
        message = "The hub had lost sight of this notebook and takes it over as it runs."
        lifecycle.record(session, workload.id, "notebook.taken_over", message, now=now)
        admitted = Admitted(workload=workload, user=user, project=project, token="", gpus=list(reservation.gpus))
        return operations.platform_of(context).arrange(session, admitted).admission


def _runs(context: Context, workload_id: str) -> bool:
    return any(seen.state == "running" for seen in context.processes.observe(workload_id))


def give_up(context: Context, forgotten: NotebookForgotten) -> None:
    """What was admitted and never started ends now, instead of holding its reservation until the lease is over.

    What runs is left alone: the next start takes it over.
    """
    with context.database.read() as session:
        ids = [row.id for row in operations.wanted(session, forgotten.user, forgotten.project)]
    for workload_id in ids:
        if not context.processes.observe(workload_id):
            operations.give_up(context, workload_id, FORGOTTEN)
