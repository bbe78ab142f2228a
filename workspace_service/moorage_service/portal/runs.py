"""One run: its cells as they run, then the executed notebook, its log and, when it failed, why."""

from fastapi import APIRouter, Request, Response

from moorage_service.context import Context, Ctx
from moorage_service.identity.callers import Caller
from moorage_service.jobs import api as jobs
from moorage_service.portal import render
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.settings import PREFIX

router = APIRouter(prefix="/runs", include_in_schema=False, route_class=PageRoute)

_LONGEST_LOG = 60_000  # bytes on the page: the log's end


@router.get("/{run_id}")
def show(request: Request, context: Ctx, caller: PageUser, run_id: str) -> Response:
    run = jobs.show_run(context, caller, run_id)
    done = sum(1 for cell in run.cells if cell.state == "completed")
    return render.page(
        request, caller, "run.html", live=None if run.ended_at else 1, run=run, done=done, log=_end_of_log(context, caller, run_id),
        failed_cell=next((cell for cell in run.cells if cell.index == run.error_cell), None),
    )  # fmt: skip


@router.post("/{run_id}/cancel")
def cancel(context: Ctx, caller: PageUser, run_id: str) -> Response:
    run = jobs.cancel(context, caller, run_id)
    message = "It has ended already." if run.ended_at else "The run is asked to end. What it has done is kept."
    return render.go(f"{PREFIX}/runs/{run_id}", good=message)


def _end_of_log(context: Context, caller: Caller, run_id: str) -> str:
    return bytes(jobs.log(context, caller, run_id, last=_LONGEST_LOG).body).decode(errors="replace")
