"""All pages in one router, below the service's prefix."""

from fastapi import APIRouter

from moorage_service.portal import admin, assets, clusters, projects, start, workloads

router = APIRouter()
for each in (
    start.router,
    workloads.router,
    projects.router,
    projects.secrets_router,
    clusters.router,
    admin.router,
    assets.router,
):
    router.include_router(each)
