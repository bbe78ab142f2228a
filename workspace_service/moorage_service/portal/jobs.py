"""Jobs: the list, one with its schedule, versions and runs, and what may be done with it."""

from typing import Annotated, cast

from fastapi import APIRouter, Query, Request, Response

from moorage.wire import RunRequest, Schedule
from moorage.wire.jobs import Missed, Overlap
from moorage_service.context import Ctx
from moorage_service.errors import BadRequest, Conflict, ServiceError
from moorage_service.jobs import api as jobs
from moorage_service.portal import forms, render, uploads, values
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.settings import PREFIX

router = APIRouter(prefix="/jobs", include_in_schema=False, route_class=PageRoute)

MISSED = (
    ("run_latest", "run once, for the latest"), ("run_all", "run for each of them"), ("skip", "leave them out"),
)  # fmt: skip
OVERLAP = (
    ("forbid", "leave the new one out"), ("queue", "let it wait"), ("allow", "run both"), ("replace", "end the former"),
)  # fmt: skip


@router.get("")
def list_all(request: Request, context: Ctx, caller: PageUser) -> Response:
    return render.page(request, caller, "jobs.html", live=2, jobs=jobs.list_jobs(context, caller))


@router.get("/schedule-preview")
def schedule_preview(
    request: Request, context: Ctx, caller: PageUser, cron: Annotated[str, Query(max_length=200)] = "",
    timezone: Annotated[str, Query(max_length=100)] = "UTC",
) -> Response:  # fmt: skip
    """A piece of a page: the schedule in words and its next fires, or what is wrong with it."""
    preview = problem = None
    if cron.strip():
        try:
            preview = jobs.preview(context, caller, Schedule(cron=cron, timezone=timezone.strip() or "UTC"))
        except ServiceError as error:
            problem = error.message
    return render.page(request, caller, "schedule_preview.html", preview=preview, problem=problem)


@router.get("/{job_id}")
def show(request: Request, context: Ctx, caller: PageUser, job_id: str) -> Response:
    job = jobs.show_job(context, caller, job_id)
    preview = None if job.schedule is None else jobs.preview(context, caller, job.schedule)
    return render.page(
        request, caller, "job.html", live=2, job=job, runs=jobs.runs_of_job(context, caller, job_id, most=50), preview=preview,
        missed=MISSED, overlap=OVERLAP, may_change=caller.admin or caller.name == job.run_as,
    )  # fmt: skip


@router.post("/{job_id}/run")
def run_now(context: Ctx, caller: PageUser, job_id: str, sent: uploads.Form) -> Response:
    job = jobs.show_job(context, caller, job_id)
    number = forms.whole(sent.one("version"), "Version") or None
    version = next((each for each in job.versions if each.number == number), job.version)
    if version is None:
        raise Conflict("This job has no version to run. Promote its notebook again.")
    given = values.changed(version.parameters, sent.under("param."))
    run = jobs.start_run(context, caller, job_id, RunRequest(parameters=given, version=number))
    return render.go(f"{PREFIX}/runs/{run.id}")


@router.post("/{job_id}/schedule")
def put_schedule(context: Ctx, caller: PageUser, job_id: str, sent: uploads.Form) -> Response:
    schedule = schedule_of(sent)
    if schedule is None:
        raise BadRequest(
            "cron: nothing was given. Write five fields such as 0 6 * * *, or remove the schedule.", field="cron"
        )
    job = jobs.put_schedule(context, caller, job_id, schedule)
    return render.go(f"{PREFIX}/jobs/{job_id}", good=f"Scheduled: {job.schedule_words} ({schedule.timezone}).")


@router.post("/{job_id}/schedule/{action}")
def change_schedule(context: Ctx, caller: PageUser, job_id: str, action: str) -> Response:
    if action == "remove":
        jobs.remove_schedule(context, caller, job_id)
        return render.go(f"{PREFIX}/jobs/{job_id}", good="The job has no schedule any more.")
    known = jobs.show_job(context, caller, job_id).schedule
    if known is None or action not in ("pause", "resume"):
        raise Conflict("There is no schedule to change. Set one first.")
    paused = action == "pause"
    jobs.put_schedule(
        context, caller, job_id,
        Schedule(cron=known.cron, timezone=known.timezone, missed=known.missed, overlap=known.overlap, paused=paused),
    )  # fmt: skip
    return render.go(
        f"{PREFIX}/jobs/{job_id}", good="Paused: it does not fire until you resume it." if paused else "Resumed."
    )


@router.post("/{job_id}/delete")
def delete(context: Ctx, caller: PageUser, job_id: str) -> Response:
    jobs.remove_job(context, caller, job_id)
    return render.go(f"{PREFIX}/jobs", good="The job is deleted. Its runs stay in the history.")


def schedule_of(sent: uploads.Sent) -> Schedule | None:
    """The schedule fields of a form; None when no cron text is given."""
    cron = sent.one("cron").strip()
    if not cron:
        return None
    missed, overlap = sent.one("missed", "run_latest"), sent.one("overlap", "forbid")
    for name, given, known in (("missed", missed, MISSED), ("overlap", overlap, OVERLAP)):
        if given not in dict(known):
            raise BadRequest(f"{name}: {given[:40]!r} is none of {', '.join(dict(known))}.", field=name)
    return Schedule(
        cron=cron,
        timezone=sent.one("timezone").strip() or "UTC",
        missed=cast(Missed, missed),
        overlap=cast(Overlap, overlap),
    )
