"""Who I am, users, and the audit."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from moorage.wire import Me, Usage, User
from moorage_service import __version__
from moorage_service.clock import to_text
from moorage_service.context import Ctx
from moorage_service.errors import Conflict
from moorage_service.identity import users
from moorage_service.identity.audit import audit
from moorage_service.identity.callers import RequireAdmin, RequireUser
from moorage_service.ledger import operations as ledger
from moorage_service.store.tables import AuditRow, UserRow

router = APIRouter(tags=["people"])


@router.get("/me")
def me(context: Ctx, caller: RequireUser) -> Me:
    with context.database.read() as session:
        user = users.to_wire(session.get_one(UserRow, caller.user_id))
    return Me(user=user, via=caller.via, version=__version__)


@router.get("/me/usage")
def my_usage(context: Ctx, caller: RequireUser, project: str | None = None) -> Usage:
    """What I hold now, and what my limits leave, in a project if one is named."""
    with context.database.read() as session:
        return ledger.usage_of(session, context.capacity, caller.user_id, project, now=context.clock())


class UserPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    uid: int | None = Field(None, ge=1000, description="An existing account's uid to run this user's workloads under.")
    active: bool | None = Field(None, description="False: may not sign in or start anything.")
    why: str | None = Field(None, description="Kept in the audit.")


@router.get("/users")
def list_users(context: Ctx, caller: RequireAdmin) -> list[User]:
    with context.database.read() as session:
        return [users.to_wire(row) for row in session.scalars(select(UserRow).order_by(UserRow.hub_name))]


@router.patch("/users/{name}")
def change_user(context: Ctx, caller: RequireAdmin, name: str, change: UserPatch) -> User:
    """Maps a user to an account, or disables them. Their home is theirs, so a uid is mapped before their first start."""
    with context.database.begin() as session:
        user = users.user_named(session, name)
        before: dict[str, Any] = {"uid": user.uid, "active": user.active}
        if change.uid is not None and change.uid != user.uid:
            if users.home_of(context.settings, user).exists():
                raise Conflict(
                    f"uid: {name} has a home already, owned by uid {user.uid}. Map a uid before their first notebook.",
                    field="uid",
                )
            if session.scalar(select(UserRow).where(UserRow.uid == change.uid)) is not None:
                raise Conflict(f"uid: {change.uid} belongs to another user. Choose another.", field="uid")
            user.uid = change.uid
        if change.active is not None:
            user.active = change.active
        after = {"uid": user.uid, "active": user.active}
        audit(session, caller, "user.change", name, before=before, after=after, why=change.why, now=context.clock())
        return users.to_wire(user)


@router.get("/audit")
def read_audit(context: Ctx, caller: RequireAdmin, most: int = 200) -> list[dict[str, Any]]:
    """Newest first: who, what, before, after, why."""
    with context.database.read() as session:
        rows = session.scalars(select(AuditRow).order_by(AuditRow.id.desc()).limit(min(most, 1000)))
        return [
            {"at": to_text(row.at), "actor": row.actor, "action": row.action, "target": row.target,
             "before": row.before, "after": row.after, "why": row.why}
            for row in rows
        ]  # fmt: skip
