"""Jobs, schedules and runs over HTTP."""

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from starlette.requests import ClientDisconnect

from moorage.wire import Inspection, Job, PromoteRequest, Run, RunProgress, RunRequest, Schedule, SchedulePreview
from moorage_service.content import grants
from moorage_service.context import Context, Ctx
from moorage_service.identity.audit import note_opened
from moorage_service.identity.callers import Caller, RequireMember, RequireUser, RequireWorkload
from moorage_service.identity.idempotency import IdempotencyKey
from moorage_service.jobs import access, launch, operations, outputs, runs, schedules, views
from moorage_service.projects.access import find_project
from moorage_service.store.records import reading, shown

logger = logging.getLogger(__name__)
router = APIRouter(tags=["jobs"])
_Most = Annotated[int, Query(ge=1, le=500)]
_OUTPUTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind.partition(";")[0]: {} for kind, _ in outputs.KINDS.values()}}
}


def _job(context: Context, caller: Caller, job_id: str) -> Job:
    with context.database.read() as session:
        job = access.find_job(session, caller, job_id)
        with reading(f"jobs/{job.id}"):
            return views.job_view(session, context.settings, caller, job, with_versions=True)


def _run(context: Context, caller: Caller, run_id: str) -> Run:
    with context.database.read() as session:
        run = runs.find(session, caller, run_id)
        with reading(f"runs/{run_id}"):
            return views.run_view(session, context.settings, run, whole=True)


@router.post("/jobs", status_code=201)
def promote(context: Ctx, caller: RequireUser, request: PromoteRequest, key: IdempotencyKey = None) -> Job:
    """Promotes a notebook: a new job, a new version, or neither if nothing has changed."""
    return _job(context, caller, operations.promote(context, caller, request, key=key))


@router.post("/jobs/inspect")
def inspect(context: Ctx, caller: RequireUser, request: PromoteRequest) -> Inspection:
    """What promoting this would make: parameters, files, whether it is a new version. Writes nothing."""
    return operations.inspect(context, caller, request)


@router.get("/jobs")
def list_jobs(context: Ctx, caller: RequireUser, project: str | None = None) -> list[Job]:
    """My jobs, and those of the projects that I am a member of."""
    with context.database.read() as session:
        found = None
        if project is not None:
            found = find_project(session, project, user_id=caller.user_id, admin=caller.admin)
        rows = access.visible_jobs(session, caller, found)
        return shown(
            rows, lambda row: views.job_view(session, context.settings, caller, row), lambda row: f"jobs/{row.id}"
        )


@router.get("/jobs/{job_id}")
def show_job(context: Ctx, caller: RequireUser, job_id: str) -> Job:
    return _job(context, caller, job_id)


@router.delete("/jobs/{job_id}", status_code=204)
def remove_job(context: Ctx, caller: RequireUser, job_id: str) -> None:
    """The job fires no more and its runs end; their history stays."""
    operations.remove(context, caller, job_id)


@router.put("/jobs/{job_id}/schedule")
def put_schedule(context: Ctx, caller: RequireUser, job_id: str, schedule: Schedule) -> Job:
    schedules.change(context, caller, job_id, schedule)
    return _job(context, caller, job_id)


@router.delete("/jobs/{job_id}/schedule")
def remove_schedule(context: Ctx, caller: RequireUser, job_id: str) -> Job:
    schedules.change(context, caller, job_id, None)
    return _job(context, caller, job_id)


@router.post("/schedules/preview")
def preview(context: Ctx, caller: RequireUser, schedule: Schedule) -> SchedulePreview:
    """The schedule in words, its next five fires with their offsets, and a warning about changes of clocks."""
    return schedules.preview(context, schedule)


@router.post("/jobs/{job_id}/runs", status_code=201)
def start_run(context: Ctx, caller: RequireUser, job_id: str, request: RunRequest, key: IdempotencyKey = None) -> Run:
    """A run now. It is queued until there is room for it and its cluster."""
    return _run(context, caller, runs.start(context, caller, job_id, request, key=key))


@router.get("/jobs/{job_id}/runs")
def runs_of_job(context: Ctx, caller: RequireUser, job_id: str, most: _Most = 100) -> list[Run]:
    """The job's runs that I may see, newest first; fires that a policy left out are among them."""
    with context.database.read() as session:
        job = access.find_job(session, caller, job_id)
        rows = runs.listed(session, caller, job=job, most=most)
        return shown(
            rows, lambda row: views.run_view(session, context.settings, row), lambda row: f"runs/{row.workload_id}"
        )


@router.get("/runs")
def list_runs(context: Ctx, caller: RequireUser, project: str | None = None, most: _Most = 100) -> list[Run]:
    """My runs, newest first."""
    with context.database.read() as session:
        rows = runs.listed(session, caller, project=project, most=most)
        return shown(
            rows, lambda row: views.run_view(session, context.settings, row), lambda row: f"runs/{row.workload_id}"
        )


@router.get("/runs/{run_id}")
def show_run(context: Ctx, caller: RequireMember, run_id: str) -> Run:
    return _run(context, caller, run_id)


@router.delete("/runs/{run_id}", status_code=202)
def cancel(context: Ctx, caller: RequireUser, run_id: str) -> Run:
    """Asks the run to end; what it did is kept."""
    runs.cancel(context, caller, run_id)
    return _run(context, caller, run_id)


@router.get("/runs/{run_id}/outputs/{name}", response_class=Response, responses=_OUTPUTS)
def output(
    context: Ctx, caller: RequireMember, request: Request, run_id: str, name: str, download: str | None = None
) -> Response:
    """notebook.ipynb, notebook.html (in a sandbox, without an origin; a browser is sent to the content origin) or run.log."""
    with context.database.read() as session:
        run = runs.find(session, caller, run_id)
    path = outputs.find(context.settings, run.workload_id, name)
    note_opened(context, caller, run_id)
    if grants.is_elsewhere(context, caller):
        if name in outputs.PAGES:
            below = name if download is None else f"{name}?download"
            target = grants.Target("output", run.workload_id)
            return RedirectResponse(grants.entrance(context, request, caller, target, below), status_code=303)
        return outputs.answer(path, download=True)
    return outputs.answer(path, download=download is not None)


@router.get("/runs/{run_id}/log", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def log(
    context: Ctx,
    caller: RequireMember,
    run_id: str,
    offset: Annotated[int, Query(ge=0)] = 0,
    last: Annotated[int | None, Query(ge=1, le=4 << 20)] = None,
) -> Response:
    """What the run printed so far, while it runs, too: from a byte on, or its last bytes."""
    with context.database.read() as session:
        run = runs.find(session, caller, run_id)
    note_opened(context, caller, run_id)
    kept = outputs.folder(context.settings, run.workload_id) / "run.log"
    path = kept if kept.is_file() else context.machine.log_path(run.workload_id, launch.ROLE)
    if last is not None:
        offset = max(0, outputs.size(path) - last)
    return Response(outputs.tail(path, offset), media_type=outputs.KINDS["run.log"][0], headers=outputs.HEADERS)


@router.post("/runs/{run_id}/progress", status_code=204)
def report(context: Ctx, caller: RequireWorkload, run_id: str, progress: RunProgress) -> None:
    """From the run's own runner. An older sequence than the last changes nothing."""
    runs.report(context, caller, run_id, progress)


@router.put("/runs/{run_id}/outputs/{name}", status_code=204)
async def upload(context: Ctx, caller: RequireWorkload, run_id: str, name: str, request: Request) -> None:
    """From the run's own runner: an output's whole content, which replaces the earlier one."""
    runs.require_own(caller, run_id)
    arriving = await run_in_threadpool(outputs.Upload, context.settings, run_id, name)
    try:
        async for piece in request.stream():
            await run_in_threadpool(arriving.write, piece)
        await run_in_threadpool(arriving.finish)
    except ClientDisconnect:  # its runner was killed, or tries again: the earlier output stays
        logger.info("the upload of %s by %s was cut off", name, run_id)
    finally:
        await run_in_threadpool(arriving.abandon)
