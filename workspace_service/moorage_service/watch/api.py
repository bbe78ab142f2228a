"""For admins: how this installation is."""

from fastapi import APIRouter

from moorage.wire import Health
from moorage_service.context import Ctx
from moorage_service.identity.callers import RequireAdmin
from moorage_service.watch import health

router = APIRouter(tags=["watching"])


@router.get("/health")
def read_health(context: Ctx, caller: RequireAdmin) -> Health:
    """Parts with their versions, loops, disks, and what to see to."""
    return health.health(context)
