"""All pages in one router, below the service's prefix."""

from fastapi import APIRouter

from moorage_service.portal import admin, assets, audit, clusters, jobs, projects, promote, runs, start, use, workloads

# Promotion before jobs, and use before workloads: their paths look like a job's and a workload's.
ROUTERS = (
    start.router, use.router, workloads.router, projects.router, projects.secrets_router, clusters.router, promote.router, jobs.router,
    runs.router, admin.router, audit.router, assets.router,
)  # fmt: skip

router = APIRouter()
for each in ROUTERS:
    router.include_router(each)
