"""Limits and use, for admins."""

from fastapi import APIRouter

from moorage.wire import Limit, LimitRequest, Usage
from moorage_service.context import Ctx
from moorage_service.errors import NotFound
from moorage_service.identity.callers import RequireAdmin
from moorage_service.ledger import operations
from moorage_service.store.tables import LimitRow

router = APIRouter(tags=["limits"])


@router.get("/limits")
def list_limits(context: Ctx, caller: RequireAdmin) -> list[Limit]:
    with context.database.read() as session:
        return operations.list_limits(session, context.capacity, now=context.clock())


@router.post("/limits", status_code=201)
def set_limit(context: Ctx, caller: RequireAdmin, request: LimitRequest) -> Limit:
    """Makes a limit; the same scope, sharing, resource and window again changes its amount."""
    with context.database.begin() as session:
        limit_id = operations.set_limit(session, caller, request, now=context.clock()).id
    return _changed(context, limit_id)


@router.put("/limits/{limit_id}")
def change_limit(context: Ctx, caller: RequireAdmin, limit_id: str, request: LimitRequest) -> Limit:
    """Replaces the limit by the one sent."""
    with context.database.begin() as session:
        if session.get(LimitRow, limit_id) is None:
            raise NotFound(f"There is no limit {limit_id!r}. The limits page lists those there are.")
        row = operations.set_limit(session, caller, request, now=context.clock())
        if row.id != limit_id:
            operations.remove_limit(session, caller, limit_id, now=context.clock(), why=request.why)
        new_id = row.id
    return _changed(context, new_id)


@router.delete("/limits/{limit_id}", status_code=204)
def remove_limit(context: Ctx, caller: RequireAdmin, limit_id: str, why: str | None = None) -> None:
    with context.database.begin() as session:
        operations.remove_limit(session, caller, limit_id, now=context.clock(), why=why)
    context.wakeup.notify()


@router.get("/usage")
def usage(context: Ctx, caller: RequireAdmin) -> Usage:
    """Who holds what, of all there is."""
    with context.database.read() as session:
        return operations.usage_of_all(session, context.capacity, now=context.clock())


def _changed(context: Ctx, limit_id: str) -> Limit:
    # Queued runs may fit now.
    context.wakeup.notify()
    with context.database.read() as session:
        for each in operations.list_limits(session, context.capacity, now=context.clock()):
            if each.id == limit_id:
                return each
    raise NotFound(f"The limit {limit_id!r} was removed by somebody else meanwhile.")
