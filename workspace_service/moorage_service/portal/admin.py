"""Pages for admins: limits, who holds what, users, and how Moorage is."""

from typing import Annotated, cast, get_args

from fastapi import APIRouter, Form, Request, Response

from moorage.quantities import InvalidQuantity, parse_memory
from moorage.wire import Limit, LimitRequest
from moorage.wire.limits import ScopeKind, Sharing
from moorage_service.context import Ctx
from moorage_service.errors import BadRequest
from moorage_service.identity import api as identity
from moorage_service.ledger import api as ledger
from moorage_service.portal import forms, render
from moorage_service.portal.access import PageAdmin, PageRoute
from moorage_service.projects import api as projects
from moorage_service.settings import PREFIX
from moorage_service.watch import api as watch

router = APIRouter(prefix="/admin", include_in_schema=False, route_class=PageRoute)

SCOPES: tuple[str, ...] = get_args(ScopeKind)
SHARINGS: tuple[str, ...] = get_args(Sharing)
_RESOURCES = ("cpu", "memory", "gpu", "notebooks", "clusters", "runs")
_WINDOWS = (("", "at once"), ("86400", "per day"), ("604800", "per 7 days"), ("2592000", "per 30 days"))


@router.get("/limits")
def limits(request: Request, context: Ctx, caller: PageAdmin) -> Response:
    found = ledger.list_limits(context, caller)
    typed = sorted(each.resource for each in found if each.scope == "machine" and each.resource.startswith("gpu:"))
    return render.page(
        request, caller, "limits.html", live=3, rules=[each for each in found if not each.id.startswith("machine-")],
        machine=[each for each in found if each.id.startswith("machine-")], resources=[*_RESOURCES, *typed], windows=_WINDOWS,
        users=[each.name for each in identity.list_users(context, caller)],
        projects=[each.slug for each in projects.list_projects(context, caller)],
    )  # fmt: skip


@router.post("/limits")
def set_limit(
    context: Ctx, caller: PageAdmin, scope: Annotated[str, Form()], resource: Annotated[str, Form()],
    amount: Annotated[str, Form()], name: Annotated[str, Form()] = "", sharing: Annotated[str, Form()] = "each",
    window_s: Annotated[str, Form()] = "", why: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    for field, given, known in (("scope", scope, SCOPES), ("sharing", sharing, SHARINGS)):
        if given not in known:
            raise BadRequest(f"{field}: {given[:40]!r} is none of {', '.join(known)}.", field=field)
    kind, window = resource.strip(), forms.whole(window_s, "Window") or None
    request = LimitRequest(
        scope=cast(ScopeKind, scope), sharing=cast(Sharing, sharing), resource=kind, amount=_amount(kind, amount, window),
        name=forms.optional(name) if scope in ("user", "group", "project") else None,
        window_s=window, why=forms.optional(why),
    )  # fmt: skip
    limit = ledger.set_limit(context, caller, request)
    return render.go(f"{PREFIX}/admin/limits", good=f"Set: {limit.text}.")


@router.post("/limits/{limit_id}/change")
def change_limit(
    context: Ctx, caller: PageAdmin, limit_id: str, amount: Annotated[str, Form()], why: Annotated[str, Form()] = ""
) -> Response:
    known = next((each for each in ledger.list_limits(context, caller) if each.id == limit_id), None)
    if known is None:
        raise BadRequest("That limit is there no more: somebody removed it meanwhile.")
    limit = ledger.change_limit(context, caller, limit_id, _with_amount(known, amount, why))
    return render.go(f"{PREFIX}/admin/limits", good=f"Changed: {limit.text}.")


@router.post("/limits/{limit_id}/remove")
def remove_limit(context: Ctx, caller: PageAdmin, limit_id: str, why: Annotated[str, Form()] = "") -> Response:
    ledger.remove_limit(context, caller, limit_id, why=forms.optional(why))
    return render.go(
        f"{PREFIX}/admin/limits", good="Removed. What runs goes on; what waited for it is tried again now."
    )


@router.get("/usage")
def usage(request: Request, context: Ctx, caller: PageAdmin) -> Response:
    return render.page(request, caller, "usage.html", live=2, usage=ledger.usage(context, caller))


@router.get("/users")
def users(request: Request, context: Ctx, caller: PageAdmin) -> Response:
    return render.page(request, caller, "users.html", users=identity.list_users(context, caller))


@router.post("/users/{name}")
def change_user(
    context: Ctx, caller: PageAdmin, name: str, uid: Annotated[str, Form()] = "", active: Annotated[str, Form()] = "",
    why: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    given = forms.whole(uid, "uid") if uid.strip() else None
    if given is not None and given < 1000:
        raise BadRequest(f"uid: {given} belongs to the system. Give the uid of an account, 1000 or more.", field="uid")
    if given is not None and given >= 1 << 31:
        raise BadRequest(f"uid: {given} is no account's. Give the uid of an account, 1000 or more.", field="uid")
    change = identity.UserPatch(uid=given, active={"yes": True, "no": False}.get(active), why=forms.optional(why))
    changed = identity.change_user(context, caller, name, change)
    mapped = "" if changed.uid is None else f", with uid {changed.uid}"
    return render.go(
        f"{PREFIX}/admin/users", good=f"{changed.name} is {'enabled' if changed.active else 'disabled'}{mapped}."
    )


@router.post("/users/{name}/sign-out")
def sign_out(context: Ctx, caller: PageAdmin, name: str, why: Annotated[str, Form()] = "") -> Response:
    identity.sign_out(context, caller, name, identity.SignOut(why=forms.optional(why)))
    return render.go(f"{PREFIX}/admin/users", good=f"{name} is signed out everywhere.")


@router.get("/health")
def health(request: Request, context: Ctx, caller: PageAdmin) -> Response:
    return render.page(request, caller, "health.html", live=5, health=watch.read_health(context, caller))


def _amount(resource: str, text: str, window_s: int | None) -> float:
    """Memory with a unit or in GiB, else a number; of a budget in hours, which the ledger counts in seconds."""
    factor = 1 if window_s is None else 3600
    if resource != "memory":
        return factor * forms.number(text, "Amount", example="4")
    try:
        return factor * float(parse_memory(text if text.strip()[-1:].isalpha() else f"{text.strip()}GiB", "Amount"))
    except InvalidQuantity as error:
        raise BadRequest(str(error), field="amount") from error


def _with_amount(known: Limit, amount: str, why: str) -> LimitRequest:
    return LimitRequest(
        scope=known.scope, name=known.name, sharing=known.sharing, resource=known.resource, window_s=known.window_s,
        amount=_amount(known.resource, amount, known.window_s), why=forms.optional(why),
    )  # fmt: skip
