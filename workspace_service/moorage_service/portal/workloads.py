"""My workloads, the history of one, and stopping it."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from moorage.wire import WorkloadKind
from moorage_service.context import Ctx
from moorage_service.portal import render
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.settings import PREFIX, is_ours
from moorage_service.workloads import api as workloads

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_GROUPS = (
    ("Notebooks", WorkloadKind.NOTEBOOK, "No notebook. Start one from the start page."),
    (
        "Clusters",
        WorkloadKind.CLUSTER,
        "No cluster. Make one from a notebook with the sizing widget, or with “New cluster”.",
    ),
    ("Runs", WorkloadKind.RUN, "No run. Promote a notebook on the jobs page, then run it now or on a schedule."),
)


@router.get("/workloads")
def my_workloads(request: Request, context: Ctx, caller: PageUser, ended: bool = False) -> Response:
    found = workloads.list_workloads(context, caller, ended=ended)
    lacking = {WorkloadKind.CLUSTER: context.platform.no_clusters, WorkloadKind.RUN: context.platform.no_jobs}
    groups = [
        (title, kind.value, [each for each in found if each.kind is kind], lacking.get(kind) or empty)
        for title, kind, empty in _GROUPS
    ]
    return render.page(request, caller, "workloads.html", live=2, groups=groups, ended=ended)


@router.get("/workloads/{workload_id}")
def history(request: Request, context: Ctx, caller: PageUser, workload_id: str) -> Response:
    item = workloads.show(context, caller, workload_id)
    events = workloads.events(context, caller, workload_id)
    return render.page(request, caller, "workload.html", live=None if item.ended_at else 2, item=item, events=events)


@router.post("/workloads/{workload_id}/stop")
def stop(
    context: Ctx,
    caller: PageUser,
    workload_id: str,
    back: Annotated[str, Form()] = "",
    why: Annotated[str, Form()] = "",
) -> Response:
    item = workloads.stop(context, caller, workload_id, why=why or None)
    target = back if is_ours(back) else f"{PREFIX}/workloads"
    done = "has ended already" if item.ended_at else "is stopping"
    return render.go(target, good=f"The {item.kind} {item.name} {done}. What it holds is free once it is gone.")
