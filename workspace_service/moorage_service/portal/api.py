"""All pages in one router, below the service's prefix."""

from fastapi import APIRouter

from moorage_service.portal import admin, assets, clusters, jobs, projects, promote, runs, start, workloads

# Promotion before jobs: its paths look like a job's.
ROUTERS = (
    start.router, workloads.router, projects.router, projects.secrets_router, clusters.router, promote.router, jobs.router,
    runs.router, admin.router, assets.router,
)  # fmt: skip

router = APIRouter()
for each in ROUTERS:
    router.include_router(each)
