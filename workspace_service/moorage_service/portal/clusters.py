"""One cluster, and the form for a new one: the same options as the widget's, from the same place."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Form, Request, Response

from moorage.wire import ClusterChange, ClusterOptions, ClusterRequest, ClusterSpec, Size
from moorage.wire.clusters import EngineName, OnNotebookEnd
from moorage_service.clusters import api as clusters
from moorage_service.context import Context, Ctx
from moorage_service.errors import BadRequest, ServiceError
from moorage_service.identity.callers import Caller
from moorage_service.portal import forms, render, words
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.projects import api as projects
from moorage_service.settings import PREFIX

router = APIRouter(prefix="/clusters", include_in_schema=False, route_class=PageRoute)

ENGINES = ("ray", "dask")
ON_NOTEBOOK_END: tuple[OnNotebookEnd, ...] = ("stop", "keep")
_LONGEST_LOG = 60_000
_GIB = 1 << 30


@router.get("/new")
def new(
    request: Request, context: Ctx, caller: PageUser, project: str | None = None, engine: str | None = None
) -> Response:
    return _form(request, context, caller, project=project, engine=engine)


@router.post("/new")
def create(
    request: Request, context: Ctx, caller: PageUser, project: Annotated[str, Form()], engine: Annotated[str, Form()] = "",
    min_workers: Annotated[str, Form()] = "", max_workers: Annotated[str, Form()] = "", cpu: Annotated[str, Form()] = "",
    memory_gib: Annotated[str, Form()] = "", gpu: Annotated[str, Form()] = "", gpu_type: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "", on_notebook_end: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    size = forms.size(cpu=cpu, memory_gib=memory_gib, gpu=gpu, gpu_type=gpu_type)
    wanted = spec(engine=engine, min_workers=min_workers, max_workers=max_workers, worker=size)
    ending = at_notebook_end(on_notebook_end) if on_notebook_end else None
    asked = ClusterRequest(project=project, name=forms.optional(name), spec=wanted, on_notebook_end=ending)
    try:
        made = clusters.create(context, caller, asked)
    except ServiceError as error:
        return _form(
            request,
            context,
            caller,
            project=project,
            engine=engine,
            given=wanted,
            problem=error,
            name=name,
            ending=ending,
        )
    return render.go(f"{PREFIX}/clusters/{made.id}", good=f"Cluster {made.name} is being made.")


@router.get("/{cluster_id}")
def show(request: Request, context: Ctx, caller: PageUser, cluster_id: str) -> Response:
    cluster = clusters.show(context, caller, cluster_id)
    log = clusters.read_log(context, caller, cluster_id)[-_LONGEST_LOG:]
    return render.page(
        request, caller, "cluster.html", live=None if cluster.ended_at else 1, cluster=cluster, log=log,
        mine=caller.name == cluster.owner,
    )  # fmt: skip


@router.post("/{cluster_id}/keep")
def keep(
    context: Ctx, caller: PageUser, cluster_id: str, on_notebook_end: Annotated[str, Form()] = "",
    hours: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """What is left empty stays as it is."""
    seconds = forms.number(hours, "Hours") * 3600 if hours.strip() else None
    ending = at_notebook_end(on_notebook_end) if on_notebook_end else None
    changed = clusters.change(context, caller, cluster_id, ClusterChange(on_notebook_end=ending, keep_for_s=seconds))
    return render.go(f"{PREFIX}/clusters/{cluster_id}", good=f"Cluster {changed.name}: {changed.events[-1].message}")


def at_notebook_end(text: str) -> OnNotebookEnd:
    for known in ON_NOTEBOOK_END:
        if text == known:
            return known
    raise BadRequest(f"When the notebook ends: {text[:40]!r} is neither. Choose stop or keep.", field="on_notebook_end")


def spec(*, engine: str, min_workers: str, max_workers: str, worker: Size) -> ClusterSpec:
    """A cluster's shape from a form's fields; bounds are for the clusters' slice to check."""
    if engine not in ENGINES:
        raise BadRequest(f"Engine: {engine[:40]!r} is none. Choose Ray or Dask.", field="engine")
    least = forms.whole(min_workers, "Workers at least", empty=1)
    return ClusterSpec(
        engine=cast(EngineName, engine), min_workers=least, worker=worker,
        max_workers=forms.whole(max_workers, "Workers at most", empty=max(1, least)),
    )  # fmt: skip


def form_values(options: ClusterOptions, engine: str | None, given: ClusterSpec | None = None) -> dict[str, Any]:
    """What `parts.cluster_fields` is given: the engine's own default, and the bounds that the server set."""
    usable = [each.engine for each in options.engines if each.available] or [options.engines[0].engine]
    chosen = engine if engine in usable else usable[0]
    default = next((each.default for each in options.engines if each.engine == chosen), None)
    left = {item.resource: item.left for item in options.remaining}
    return {
        "options": options, "engine": chosen, "defaults": {each.engine: fields(each.default) for each in options.engines if each.default},
        "spec": given or default or ClusterSpec(engine=chosen, worker=Size(cpu=1, memory=2 * _GIB)),
        "gpu_types": options.gpu_types, "left": {name: left[name] for name in ("cpu", "memory", "gpu") if name in left},
        "head": {"cpu": options.head.cpu, "memory": options.head.memory},
        "most_cpu": words.number(options.max_worker.cpu), "most_gib": words.number(int(options.max_worker.memory / _GIB * 2) / 2),
    }  # fmt: skip


def fields(default: ClusterSpec) -> dict[str, str]:
    """What choosing the engine puts into the form's fields."""
    return {
        "min_workers": str(default.min_workers), "max_workers": str(default.max_workers), "cpu": words.number(default.worker.cpu),
        "memory_gib": words.gib(default.worker.memory), "gpu": str(default.worker.gpu), "gpu_type": default.worker.gpu_type or "",
    }  # fmt: skip


def _form(
    request: Request, context: Context, caller: Caller, *, project: str | None, engine: str | None, given: ClusterSpec | None = None,
    problem: ServiceError | None = None, name: str = "", ending: OnNotebookEnd | None = None,
) -> Response:  # fmt: skip
    known = [each for each in projects.list_projects(context, caller) if each.role != "viewer" and each.environment]
    slugs = [each.slug for each in known]
    slug = project if project in slugs else next(iter(slugs), None)
    values = form_values(clusters.options(context, caller, slug), engine, given) if slug else {}
    return render.page(
        request, caller, "cluster_new.html", status=problem.status if problem else 200, projects=known, chosen=slug, name=name,
        problem=problem.message if problem else None, on_notebook_end=ending, **values,
    )  # fmt: skip
