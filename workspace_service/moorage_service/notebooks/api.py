"""Notebooks: for the hub's spawner, and for their owners."""

from fastapi import APIRouter

from moorage.wire import (
    Notebook,
    NotebookAdmission,
    NotebookCondition,
    NotebookForgotten,
    NotebookObservation,
    NotebookRequest,
    Size,
    WorkloadKind,
)
from moorage_service.context import Ctx
from moorage_service.errors import Forbidden
from moorage_service.identity.callers import Caller, RequireSpawner, RequireUser, RequireWorkload
from moorage_service.identity.rates import Action
from moorage_service.notebooks import conditions, operations, takeover
from moorage_service.projects.access import find_project
from moorage_service.store.records import reading, shown
from moorage_service.workloads import operations as workloads

router = APIRouter(tags=["notebooks"])


@router.post("/notebooks", status_code=201)
def admit(context: Ctx, caller: RequireSpawner, request: NotebookRequest) -> NotebookAdmission:
    """Admission: the spawner asks before it starts a server. 409 with a refusal when a limit leaves no room.

    A server of this notebook that runs, and that the hub has forgotten, is answered with `runs`: it is not started twice.
    """
    taken_over = None if request.fresh else takeover.take_over(context, request)
    if taken_over is not None:
        return taken_over
    operations.end_stale(context, request)
    return operations.admit(context, request)


@router.post("/notebooks/forgotten", status_code=204)
def forget(context: Ctx, caller: RequireSpawner, forgotten: NotebookForgotten) -> None:
    takeover.give_up(context, forgotten)


@router.post("/notebooks/{workload_id}/observations", status_code=204)
def observe(context: Ctx, caller: RequireSpawner, workload_id: str, observation: NotebookObservation) -> None:
    operations.observe(context, workload_id, observation)


@router.post("/notebooks/condition", status_code=204)
def report_condition(context: Ctx, caller: RequireWorkload, condition: NotebookCondition) -> None:
    conditions.receive(context, caller, condition)


@router.post("/projects/{slug}/notebook", status_code=202)
def start(context: Ctx, caller: RequireUser, slug: str, size: Size) -> dict[str, str]:
    """Asks the hub to start my notebook of this project; `GET /notebooks` shows how it goes."""
    start_server(context, caller, slug, size)
    return {"url": f"/user/{caller.name}/{slug}/"}


def start_server(context: Ctx, caller: Caller, slug: str, size: Size) -> None:
    """Raises what admission would, and Forbidden for a credential that can't act at the hub (a notebook's own token)."""
    with context.database.read() as session:
        find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")
    if caller.hub_token is None:
        raise Forbidden(
            "A notebook's own token can't start notebooks. Use the portal, or a token from the hub's token page."
        )
    context.rates.check(Action.NOTEBOOK_START, user_id=caller.user_id)  # counted when the hub asks for it
    operations.refuse_at_once(context, caller.user_id, caller.admin, slug, size)
    options = {"project": slug, "cpu": size.cpu, "memory": size.memory, "gpu": size.gpu, "gpu_type": size.gpu_type}
    context.hub.start_server(caller.name, slug, options, token=caller.hub_token)


@router.get("/notebooks")
def list_notebooks(context: Ctx, caller: RequireUser, ended: bool = False) -> list[Notebook]:
    with context.database.read() as session:
        rows = workloads.list_workloads(session, owner_id=caller.user_id, kind=WorkloadKind.NOTEBOOK, alive=not ended)
        return shown(rows, lambda row: operations.to_wire(session, row), lambda row: f"notebooks/{row.id}")


@router.get("/notebooks/{workload_id}")
def show(context: Ctx, caller: RequireUser, workload_id: str) -> Notebook:
    with context.database.read() as session:
        row = workloads.find_own(session, caller, workload_id, kind=WorkloadKind.NOTEBOOK)
        with reading(f"notebooks/{row.id}"):
            return operations.to_wire(session, row, with_events=True)


@router.delete("/notebooks/{workload_id}", status_code=202)
def stop(context: Ctx, caller: RequireUser, workload_id: str) -> Notebook:
    with context.database.begin() as session:
        workloads.find_own(session, caller, workload_id, kind=WorkloadKind.NOTEBOOK)
        row = workloads.stop(session, caller, workload_id, now=context.clock())
        answer = operations.to_wire(session, row)
    context.wakeup.notify()
    return answer
