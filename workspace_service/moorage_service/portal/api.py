"""All pages in one router, below the service's prefix."""

from fastapi import APIRouter

from moorage_service.portal import admin, assets, start, workloads

router = APIRouter()
for each in (start, workloads, admin, assets):
    router.include_router(each.router)
