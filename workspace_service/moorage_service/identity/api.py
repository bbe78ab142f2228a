"""Who I am, users, and the audit."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from moorage.wire import AuditEntry, Me, Usage, User
from moorage_service import __version__, sheets
from moorage_service.context import Ctx
from moorage_service.errors import Conflict
from moorage_service.identity import audit_log, disabled, sign_outs, users
from moorage_service.identity.audit import audit
from moorage_service.identity.callers import RequireAdmin, RequireUser
from moorage_service.ledger import operations as ledger
from moorage_service.projects.access import find_project
from moorage_service.recovery import owners
from moorage_service.store.records import shown
from moorage_service.store.tables import UserRow
from moorage_service.walls import extend_wall

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
        found = None
        if project is not None:
            found = find_project(session, project, user_id=caller.user_id, admin=caller.admin).id
        return ledger.usage_of(session, context.capacity, caller.user_id, found, now=context.clock())


class UserPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    uid: int | None = Field(
        None, ge=1000, lt=1 << 31, description="An existing account's uid to run this user's workloads under."
    )
    active: bool | None = Field(None, description="False: may not sign in or start anything.")
    why: str | None = Field(None, description="Kept in the audit.")


@router.get("/users")
def list_users(context: Ctx, caller: RequireAdmin) -> list[User]:
    with context.database.read() as session:
        rows = session.scalars(select(UserRow).order_by(UserRow.hub_name))
        return shown(rows, users.to_wire, lambda row: f"users/{row.id}")


@router.patch("/users/{name}")
def change_user(context: Ctx, caller: RequireAdmin, name: str, change: UserPatch) -> User:
    """Maps a user to an account, or disables them. Their home is theirs, so a uid is mapped before their first start."""
    with context.database.begin() as session:
        user = users.user_named(session, name)
        before: dict[str, Any] = {"uid": user.uid, "active": user.active}
        if change.uid is not None:
            users.map_uid(session, context.settings, user, change.uid)
        if change.active is not None:
            if not change.active and user.id == caller.user_id:
                raise Conflict("active: nobody can disable themselves. Ask another admin.", field="active")
            users.set_active(session, context.settings, user, change.active, now=context.clock())
        after = {"uid": user.uid, "active": user.active}
        audit(session, caller, "user.change", name, before=before, after=after, why=change.why, now=context.clock())
        answer = users.to_wire(user)
    owners.keep(context.settings.state, user)
    extend_wall(context)
    if before["active"] and not after["active"]:
        sign_outs.at_the_hub(context, name)
        disabled.end_work(context)
        context.wakeup.notify()
    return answer


class SignOut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    why: str | None = Field(None, description="Kept in the audit.")


@router.post("/users/{name}/sign-out", status_code=204)
def sign_out(context: Ctx, caller: RequireAdmin, name: str, request: SignOut) -> None:
    """Ends all of a user's sessions, at the portal and at the hub, and the tokens they made there. What runs goes on."""
    sign_outs.everywhere(context, caller, name, why=request.why)


Filter = Annotated[str | None, Query(max_length=255)]


@router.get("/audit", response_model=list[AuditEntry], responses=sheets.ALSO_CSV)
def read_audit(
    context: Ctx, caller: RequireAdmin, csv: sheets.AsCsv, actor: Filter = None, action: Filter = None, target: Filter = None,
    older_than: Annotated[int | None, Query(ge=0, lt=1 << 63, description="The id of the last entry of the page before.")] = None,
    most: Annotated[int, Query(ge=1, le=audit_log.MOST)] = 200,
) -> list[AuditEntry] | Response:  # fmt: skip
    """Newest first: who, what, before, after, why. `action`: one, or all of a kind ("limit"). `target`: a part of it."""
    wanted = audit_log.Wanted(actor=actor, action=action, target=target, older_than=older_than, most=most)
    with context.database.read() as session:
        found = audit_log.read(session, wanted)
    if not csv:
        return found
    columns = ["id", "at", "actor", "action", "target", "before", "after", "why"]
    rows = (
        [each.id, each.at, each.actor, each.action, each.target, _json(each.before), _json(each.after), each.why]
        for each in found
    )
    return sheets.sheet("audit", columns, rows)


def _json(facts: dict[str, Any] | None) -> str | None:
    return None if facts is None else json.dumps(facts, ensure_ascii=False)
