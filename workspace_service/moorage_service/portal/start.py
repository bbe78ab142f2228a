"""The start page, and the page that follows a notebook until it is ready."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response

from moorage.wire import Notebook, Phase, Project
from moorage_service.clock import optional_text
from moorage_service.context import Context, Ctx
from moorage_service.errors import Conflict
from moorage_service.identity import api as identity
from moorage_service.identity.callers import Caller
from moorage_service.ledger.resources import of_size
from moorage_service.notebooks import api as notebooks
from moorage_service.portal import forms, render, sizing, words
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.portal.starts import Start, Starts
from moorage_service.projects import api as projects
from moorage_service.settings import PREFIX

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_STARTS_KEY = "portal_starts"
# The hub may accept a start and begin it later; after this long without a sign of it, it is given up.
_PATIENCE = timedelta(seconds=60)


@router.get("/")
def start_page(request: Request, context: Ctx, caller: PageUser, project: str | None = None) -> Response:
    mine = notebooks.list_notebooks(context, caller)
    known = [each for each in projects.list_projects(context, caller) if each.role != "viewer"]
    usage = identity.my_usage(context, caller, project)
    default = sizing.default_size(context)
    return render.page(
        request, caller, "start.html", live=3, notebooks=mine, projects=known, chosen=project or _likely(context, caller, known),
        size=default, remaining=usage.remaining, advisory=context.advisory,
        **sizing.choices(usage.remaining, default, context.capacity),
    )  # fmt: skip


@router.post("/start")
def start(
    request: Request, context: Ctx, caller: PageUser, project: Annotated[str, Form()], cpu: Annotated[str, Form()],
    memory_gib: Annotated[str, Form()], gpu: Annotated[str, Form()] = "", gpu_type: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """What can be refused at once is; the rest shows on the progress page."""
    size = forms.size(cpu=cpu, memory_gib=memory_gib, gpu=gpu, gpu_type=gpu_type)
    of_size(size)
    projects.get_project(context, caller, project)

    def ask() -> None:
        try:
            notebooks.start_server(context, caller, project, size)
        except Conflict as error:
            if error.code != "hub_refused":
                raise
            # The hub passes on the sentence of whoever refused: ours, mostly.
            raise Conflict(error.message.partition(": ")[2] or error.message) from error

    _starts(request).begin(caller.user_id, project, ask, now=context.clock())
    return render.go(f"{PREFIX}/start/{project}")


@router.get("/start/{slug}")
def progress(request: Request, context: Ctx, caller: PageUser, slug: str) -> Response:
    projects.get_project(context, caller, slug)  # not found unless it is the caller's
    begun = _starts(request).find(caller.user_id, slug)
    notebook = _notebook(context, caller, slug, begun)
    if notebook is None and begun is not None and begun.answered and not begun.failure:
        begun = _refused_since(request, context, caller, slug, begun)
    goto = failure = None
    if notebook is not None and notebook.phase is Phase.READY:
        goto = f"/user/{quote(caller.name, safe='@~')}/{quote(slug)}/lab"
    elif notebook is not None and notebook.phase.ended:
        failure = notebook.reason or f"The notebook is {notebook.phase}."
    elif begun is not None and begun.failure:
        failure = begun.failure
    elif notebook is None and (begun is None or (begun.answered and context.clock() - begun.asked_at > _PATIENCE)):
        failure = "The hub has no start of this notebook under way. Start it again."
    since = notebook.created_at if notebook is not None else optional_text(begun.asked_at if begun else None)
    return render.page(
        request, caller, "progress.html", live=None if goto or failure else _pace(context, since), slug=slug, notebook=notebook,
        asked=begun is not None, goto=goto, failure=failure, since=since,
    )  # fmt: skip


def _refused_since(request: Request, context: Context, caller: Caller, slug: str, begun: Start) -> Start:
    """The hub accepts a start before it is admitted; who was refused then has no notebook, and the hub alone knows why."""
    said = None if caller.hub_token is None else context.hub.failed_start(caller.name, slug, token=caller.hub_token)
    if said is None:
        return begun
    _starts(request).give_up(caller.user_id, slug, begun, said)
    return _starts(request).find(caller.user_id, slug) or begun


def _pace(context: Context, since: str | None) -> float:
    """Seconds until the page looks again: soon while it may be ready any moment, later when many wait long and each look costs all."""
    waited = 0.0 if since is None else (context.clock() - words.parsed(since)).total_seconds()
    return 0.7 if waited < 10 else 2.0 if waited < 60 else 5.0


def _likely(context: Context, caller: Caller, known: list[Project]) -> str | None:
    """The project of the latest notebook, else one that can start at once."""
    ready = [each.slug for each in known if each.environment]
    latest = [each.project for each in notebooks.list_notebooks(context, caller, ended=True) if each.project in ready]
    return next(iter([*latest, *ready, *(each.slug for each in known)]), None)


def _notebook(context: Context, caller: Caller, slug: str, begun: Start | None) -> Notebook | None:
    """The one that this start made, else one that is alive: not an earlier one that is only ending."""
    for each in notebooks.list_notebooks(context, caller, ended=True):
        if each.project != slug:
            continue
        new = begun is not None and words.parsed(each.created_at) >= begun.asked_at
        if new or (each.ended_at is None and (begun is None or each.phase is not Phase.STOPPING)):
            return notebooks.show(context, caller, each.id)
    return None


def _starts(request: Request) -> Starts:
    state = request.app.state
    if not hasattr(state, _STARTS_KEY):
        setattr(state, _STARTS_KEY, Starts())
    found: Starts = getattr(state, _STARTS_KEY)
    return found
