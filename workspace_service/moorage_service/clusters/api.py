"""Clusters: for their owners, and for their agents."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from moorage.wire import (
    AgentOrders,
    AgentReport,
    Attach,
    Cluster,
    ClusterChange,
    ClusterOptions,
    ClusterRequest,
    WorkloadKind,
)
from moorage_service.clusters import keeping, operations, reports
from moorage_service.context import Context, Ctx
from moorage_service.identity.audit import note_opened
from moorage_service.identity.callers import Caller, RequireMember, RequireUser, RequireWorkload
from moorage_service.identity.idempotency import IdempotencyKey
from moorage_service.store.records import reading, shown
from moorage_service.store.tables import ProjectRow
from moorage_service.workloads import operations as workloads

router = APIRouter(tags=["clusters"])


@router.get("/clusters/options")
def options(context: Ctx, caller: RequireUser, project: str | None = None) -> ClusterOptions:
    """Bounds, defaults and what is left of my limits, for a form. Without a project: the calling notebook's."""
    return operations.options(context, caller, project)


@router.post("/clusters", status_code=201)
def create(context: Ctx, caller: RequireUser, request: ClusterRequest, key: IdempotencyKey = None) -> Cluster:
    """Admits a cluster at its largest size and starts it. 409 with a refusal when a limit leaves no room."""
    return _show(context, caller, operations.create(context, caller, request, key=key))


@router.get("/clusters")
def list_clusters(
    context: Ctx, caller: RequireMember, project: str | None = None, ended: bool = False
) -> list[Cluster]:
    """Mine, newest first; a run sees its own."""
    with context.database.read() as session:
        rows = workloads.list_workloads(session, owner_id=caller.user_id, kind=WorkloadKind.CLUSTER, alive=not ended)
        if caller.workload_kind == "run":
            rows = [row for row in rows if row.parent_id == caller.workload_id]
        if project is not None:
            rows = [row for row in rows if session.get_one(ProjectRow, row.project_id).slug == project]
        return shown(rows, lambda row: operations.to_wire(session, row), lambda row: f"clusters/{row.id}")


@router.get("/clusters/{cluster_id}")
def show(context: Ctx, caller: RequireMember, cluster_id: str) -> Cluster:
    return _show(context, caller, cluster_id)


@router.patch("/clusters/{cluster_id}")
def change(context: Ctx, caller: RequireUser, cluster_id: str, wanted: ClusterChange) -> Cluster:
    """Changes when it ends by itself: with its notebook or not, and until when no clock ends it."""
    keeping.change(context, caller, cluster_id, wanted)
    return _show(context, caller, cluster_id)


@router.delete("/clusters/{cluster_id}", status_code=202)
def stop(context: Ctx, caller: RequireMember, cluster_id: str) -> Cluster:
    """Asks it to end; what it holds is released once it is gone. Ended already: nothing changes."""
    with context.database.begin() as session:
        workloads.find_own(session, caller, cluster_id, kind=WorkloadKind.CLUSTER)
        workloads.stop(session, caller, cluster_id, now=context.clock())
    context.wakeup.notify()
    return _show(context, caller, cluster_id)


@router.get("/clusters/{cluster_id}/attach")
def attach(context: Ctx, caller: RequireMember, cluster_id: str) -> Attach:
    """Address and credentials: for the owner's notebooks and runs only."""
    return operations.attach(context, caller, cluster_id)


@router.get("/clusters/{cluster_id}/log", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def log(context: Ctx, caller: RequireMember, cluster_id: str) -> PlainTextResponse:
    """What head or scheduler, workers and agent wrote; the last MiB of each."""
    return PlainTextResponse(read_log(context, caller, cluster_id))


def read_log(context: Context, caller: Caller, cluster_id: str) -> str:
    with context.database.read() as session:
        workloads.find_own(session, caller, cluster_id, kind=WorkloadKind.CLUSTER)
    note_opened(context, caller, cluster_id)
    return operations.platform_of(context).log(cluster_id)


@router.post("/agent/reports")
def report(context: Ctx, caller: RequireWorkload, report: AgentReport) -> AgentOrders:
    """For a cluster's agent: what it sees, about once a second."""
    return reports.receive(context, caller, report)


def _show(context: Context, caller: Caller, cluster_id: str) -> Cluster:
    with context.database.read() as session:
        row = workloads.find_own(session, caller, cluster_id, kind=WorkloadKind.CLUSTER)
        with reading(f"clusters/{row.id}"):
            return operations.to_wire(session, row, with_events=True)
