"""The application: routes under one prefix, one error format, and the threads that live as long as it does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import RedirectResponse

from moorage.wire import WorkloadKind
from moorage_images.schema import published
from moorage_service import __version__, errors, quarantine
from moorage_service.admin import api as admin_api
from moorage_service.bodies import LimitBodies
from moorage_service.clusters import api as clusters_api
from moorage_service.clusters import dashboards, leftovers
from moorage_service.clusters import reconcile as clusters
from moorage_service.content.api import SecretsKeptBack, content_app
from moorage_service.context import Context
from moorage_service.doors import Doors
from moorage_service.gauges import registry_of
from moorage_service.identity import api as identity_api
from moorage_service.identity import disabled, oauth
from moorage_service.jobs import api as jobs_api
from moorage_service.jobs import execution as runs
from moorage_service.jobs.clock import ScheduleClock
from moorage_service.ledger import api as ledger_api
from moorage_service.ledger.operations import note_capacity
from moorage_service.notebooks import api as notebooks_api
from moorage_service.notebooks import reconcile as notebooks
from moorage_service.notebooks.left_secrets import LeftSecrets
from moorage_service.portal import api as portal_api
from moorage_service.portal import assets
from moorage_service.portal.access import no_page
from moorage_service.projects import api as projects_api
from moorage_service.projects.builder import Builder
from moorage_service.projects.seed import seed_starter
from moorage_service.reconciler.loop import Reconciler, Step, Survey, make_reconcilers
from moorage_service.reconciler.orphans import Orphans
from moorage_service.recovery.settle import settle
from moorage_service.settings import PREFIX
from moorage_service.use import api as use_api
from moorage_service.watch import api as watch_api
from moorage_service.watch.requests import WatchRequests
from moorage_service.workloads import api as workloads_api
from moorage_service.workloads import log_bounds

API = f"{PREFIX}/api/v1"

ROUTERS: list[APIRouter] = [
    admin_api.router,
    clusters_api.router,
    identity_api.router,
    jobs_api.router,
    ledger_api.router,
    notebooks_api.router,
    projects_api.router,
    use_api.router,
    watch_api.router,
    workloads_api.router,
]
STEPS: dict[WorkloadKind, Step] = {
    WorkloadKind.CLUSTER: clusters.step,
    WorkloadKind.NOTEBOOK: notebooks.step,
    WorkloadKind.RUN: runs.step,
}
SWEEPS: list[Callable[[Context], None]] = [quarantine.sweep, leftovers.sweep, disabled.end_work, log_bounds.sweep]
SURVEYS: dict[WorkloadKind, Survey] = {
    WorkloadKind.CLUSTER: clusters.survey,
    WorkloadKind.NOTEBOOK: notebooks.survey,
    WorkloadKind.RUN: runs.survey,
}


def create_app(context: Context, *, background: bool = True) -> FastAPI:
    """`background` False: routes only, for tests that drive the reconciler themselves."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loops: list[Reconciler | Builder | ScheduleClock | Orphans] = []
        if background:
            context.leadership.begin_with(partial(settle, context))
            context.leadership.start()
            if context.leadership.held():
                context.leadership.begin()
            with context.database.begin() as session:
                note_capacity(session, context.capacity, now=context.clock())
            seed_starter(context)
            loops = [
                *make_reconcilers(context, STEPS, SURVEYS),
                Builder(context),
                ScheduleClock(context),
                Orphans(context, [*SWEEPS, LeftSecrets()]),
            ]
        for loop in loops:
            loop.start()
        yield
        for loop in loops:
            loop.stop()
        if background:
            context.leadership.stop()
        if context.pods is not None:
            context.pods.close()
        context.database.close()

    app = FastAPI(
        title="Moorage", version=__version__, lifespan=lifespan, openapi_url=f"{API}/openapi.json", docs_url=None, redoc_url=None,
        summary="Notebooks, clusters, jobs and limits. Send a hub token or a notebook's own as `Authorization: Bearer TOKEN`.",
    )  # fmt: skip
    app.state.context = context
    app.add_middleware(LimitBodies, largest=context.settings.largest_body)
    app.add_middleware(Doors, context=context, content=content_app(context))
    app.add_middleware(WatchRequests)
    app.add_middleware(SecretsKeptBack)
    errors.install_handlers(app)
    app.exception_handler(404)(no_page)
    for router in ROUTERS:
        app.include_router(router, prefix=API, responses=errors.documented())
    app.include_router(oauth.router, prefix=PREFIX)
    app.include_router(dashboards.router, prefix=PREFIX)
    app.include_router(portal_api.router, prefix=PREFIX)
    app.router.routes.extend(assets.mounts())
    app.include_router(_open_routes(context))
    return app


def _open_routes(context: Context) -> APIRouter:
    """What needs no credential: liveness, metrics, the schema of moorage.yaml. None tells anything of anybody."""
    router = APIRouter(include_in_schema=False)
    registry = registry_of(context)

    @router.get(f"{PREFIX}/health")
    async def health() -> dict[str, str]:  # not in a thread: all of them may wait for the store
        return {"status": "ok", "version": __version__}

    @router.get(f"{PREFIX}/metrics")
    def metrics() -> Response:
        return Response(generate_latest() + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @router.get(f"{PREFIX}/moorage.schema.json")
    def manifest_schema() -> Response:
        return Response(published(), media_type="application/schema+json")

    @router.get(PREFIX)
    def root() -> RedirectResponse:
        return RedirectResponse(f"{PREFIX}/")

    return router
