"""Any workload: list, history, stop."""

from fastapi import APIRouter

from moorage.wire import Event, Workload, WorkloadKind
from moorage_service.context import Ctx
from moorage_service.identity.callers import RequireUser
from moorage_service.workloads import operations

router = APIRouter(prefix="/workloads", tags=["workloads"])


@router.get("")
def list_workloads(
    context: Ctx, caller: RequireUser, kind: WorkloadKind | None = None, ended: bool = False
) -> list[Workload]:
    """My workloads, newest first."""
    with context.database.read() as session:
        rows = operations.list_workloads(session, owner_id=caller.user_id, kind=kind, alive=not ended)
        return [operations.to_wire(session, row) for row in rows]


@router.get("/{workload_id}")
def show(context: Ctx, caller: RequireUser, workload_id: str) -> Workload:
    with context.database.read() as session:
        return operations.to_wire(session, operations.find_own(session, caller, workload_id))


@router.get("/{workload_id}/events")
def events(context: Ctx, caller: RequireUser, workload_id: str) -> list[Event]:
    """What happened to it, oldest first."""
    with context.database.read() as session:
        operations.find_own(session, caller, workload_id)
        return operations.events_of(session, workload_id)


@router.delete("/{workload_id}", status_code=202)
def stop(context: Ctx, caller: RequireUser, workload_id: str, why: str | None = None) -> Workload:
    """Asks it to end. Ended already: nothing changes."""
    with context.database.begin() as session:
        workload = operations.stop(session, caller, workload_id, now=context.clock(), why=why)
        answer = operations.to_wire(session, workload)
    context.wakeup.notify()
    return answer
