"""All pages in one router, below the service's prefix."""

from fastapi import APIRouter

from moorage_service.portal import admin, assets, clusters, jobs, projects, promote, runs, start, workloads

router = APIRouter()
for each in (
    start.router,
    workloads.router,
    projects.router,
    projects.secrets_router,
    clusters.router,
    promote.router,
    jobs.router,
    runs.router,
    admin.router,
    assets.router,
):
    router.include_router(each)
