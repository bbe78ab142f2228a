"""Promoting a notebook by a form: what it would make is shown while the form is filled in."""

import base64
from typing import Any

from fastapi import APIRouter, Request, Response

from moorage.wire import PromoteRequest, Size, SnapshotFile
from moorage_service.clusters import api as clusters
from moorage_service.context import Context, Ctx
from moorage_service.errors import BadRequest, ServiceError
from moorage_service.identity.callers import Caller
from moorage_service.jobs import api as jobs
from moorage_service.portal import clusters as cluster_pages
from moorage_service.portal import forms, render, uploads, values
from moorage_service.portal import jobs as job_pages
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.projects import api as projects
from moorage_service.settings import PREFIX

router = APIRouter(prefix="/jobs/promote", include_in_schema=False, route_class=PageRoute)


@router.get("")
def form(request: Request, context: Ctx, caller: PageUser, project: str | None = None) -> Response:
    return _page(request, context, caller, project)


@router.post("/preview")
def preview(request: Request, context: Ctx, caller: PageUser, sent: uploads.Form) -> Response:
    """A piece of a page: the notebook's parameters, and what promoting it now would make."""
    found = problem = None
    try:
        # Not the values: they are shown with the notebook's own defaults, to be changed.
        found = jobs.inspect(context, caller, _request(sent, parameters={}))
    except ServiceError as error:
        problem = error.message
    given = sent.under("param.")
    return render.page(request, caller, "promotion_preview.html", found=found, problem=problem, given=given)


@router.post("")
def promote(request: Request, context: Ctx, caller: PageUser, sent: uploads.Form) -> Response:
    try:
        parameters: dict[str, Any] = {}
        if fields := sent.under("param."):
            plain = jobs.inspect(context, caller, _request(sent, parameters={}))
            parameters = values.changed(plain.parameters, fields)
        job = jobs.promote(context, caller, _request(sent, parameters=parameters))
    except ServiceError as error:
        return _page(request, context, caller, sent.one("project") or None, problem=error)
    number = job.version.number if job.version else 0
    return render.go(f"{PREFIX}/jobs/{job.id}", good=f"Promoted: {job.name}, version {number}.")


def _request(sent: uploads.Sent, *, parameters: dict[str, Any]) -> PromoteRequest:
    notebook = next((file for file in sent.files if file[0] == "notebook"), None)
    if notebook is None:
        raise BadRequest("notebook: choose the notebook to promote, a file that ends in .ipynb.", field="notebook")
    helpers = [file for file in sent.files if file[0] == "helpers"]
    return PromoteRequest(
        project=sent.one("project") or None, name=forms.optional(sent.one("name")), notebook=notebook[1],
        files=[SnapshotFile(path=name, content=base64.b64encode(content).decode()) for _, name, content in (notebook, *helpers)],
        parameters=parameters, schedule=job_pages.schedule_of(sent), cluster=_cluster(sent), size=_size(sent),
        secrets=sent.all("secrets"), timeout_s=_timeout(sent),
    )  # fmt: skip


def _cluster(sent: uploads.Sent) -> Any:
    if sent.one("with_cluster") != "yes":
        return None
    worker = forms.size(
        cpu=sent.one("cpu"), memory_gib=sent.one("memory_gib"), gpu=sent.one("gpu"), gpu_type=sent.one("gpu_type")
    )
    return cluster_pages.spec(
        engine=sent.one("engine"),
        min_workers=sent.one("min_workers"),
        max_workers=sent.one("max_workers"),
        worker=worker,
    )


def _size(sent: uploads.Sent) -> Size | None:
    if not sent.one("run_cpu").strip() or not sent.one("run_memory_gib").strip():
        return None
    return forms.size(cpu=sent.one("run_cpu"), memory_gib=sent.one("run_memory_gib"))


def _timeout(sent: uploads.Sent) -> int | None:
    """Given in minutes."""
    text = sent.one("timeout_min").strip()
    return round(60 * forms.number(text, "Ends after", example="90")) if text else None


def _page(
    request: Request, context: Context, caller: Caller, project: str | None, problem: ServiceError | None = None
) -> Response:
    known = [each for each in projects.list_projects(context, caller) if each.role != "viewer" and each.environment]
    slugs = [each.slug for each in known]
    slug = project if project in slugs else next(iter(slugs), None)
    shown: dict[str, Any] = {}
    if slug:
        shown = cluster_pages.form_values(clusters.options(context, caller, slug), None)
        shown["own_secrets"] = projects.list_my_secrets(context, caller)
        shown["project_secrets"] = projects.list_project_secrets(context, caller, slug)
    run = context.settings.run_size
    return render.page(
        request, caller, "promote.html", status=problem.status if problem else 200, projects=known, chosen=slug,
        problem=problem.message if problem else None, missed=job_pages.MISSED, overlap=job_pages.OVERLAP,
        run_size=Size(cpu=run.cpu, memory=run.memory), **shown,
    )  # fmt: skip
