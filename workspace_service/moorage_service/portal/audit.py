"""The audit for people: chosen by who, what and of what; what was changed stands as a difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from moorage.quantities import show_amount
from moorage.wire import AuditEntry
from moorage_service.context import Ctx
from moorage_service.identity import api as identity
from moorage_service.identity import audit_log
from moorage_service.portal import render, words
from moorage_service.portal.access import PageAdmin, PageRoute
from moorage_service.settings import PREFIX

router = APIRouter(prefix="/admin/audit", include_in_schema=False, route_class=PageRoute)

PAGE = 100
_IDS = ("limit",)  # for `moorage admin check`, not for people
Text = Annotated[str, Query(max_length=255)]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One fact. `was` or `now` None: it was not there; the same: it was left as it is."""

    name: str
    was: str | None
    now: str | None


@router.get("")
def show(
    request: Request, context: Ctx, caller: PageAdmin, actor: Text = "", action: Text = "", target: Text = "",
    older_than: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
) -> Response:  # fmt: skip
    wanted = {
        name: text.strip() for name, text in (("actor", actor), ("action", action), ("target", target)) if text.strip()
    }
    entries = identity.read_audit(context, caller, False, **wanted, older_than=older_than, most=PAGE + 1)
    assert isinstance(entries, list)
    actors, actions = audit_log.choices(context)
    shown = entries[:PAGE]
    here = f"{PREFIX}/admin/audit"
    return render.page(
        request, caller, "audit.html", entries=[(each, changes(each)) for each in shown], wanted=wanted, older_than=older_than,
        actors=actors, actions=_to_choose(actions, wanted.get("action")), newest=f"{here}?{urlencode(wanted)}",
        older=f"{here}?{urlencode({**wanted, 'older_than': shown[-1].id})}" if len(entries) > PAGE else None,
        as_csv=f"{PREFIX}/api/v1/audit?{urlencode({**wanted, 'most': audit_log.MOST, 'format': 'csv'})}",
    )  # fmt: skip


def changes(entry: AuditEntry) -> list[Change]:
    """What is different first, then what was left as it is."""
    before, after = entry.before or {}, entry.after or {}
    names = [name for name in {**before, **after} if name not in _IDS]
    found = [
        Change(name=name, was=_fact(before, name, entry.target), now=_fact(after, name, entry.target)) for name in names
    ]  # fmt: skip
    return sorted(found, key=lambda change: change.was == change.now)


def _to_choose(actions: list[str], chosen: str | None) -> list[str]:
    """Each kind of several actions stands before its actions: "limit", "limit.remove", "limit.set"."""
    kinds = [action.partition(".")[0] for action in actions]
    return sorted({*actions, *(kind for kind in kinds if kinds.count(kind) > 1), *([chosen] if chosen else [])})


def _fact(facts: Mapping[str, Any], name: str, about: str) -> str | None:
    if name not in facts:
        return None
    value = facts[name]
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int | float):
        return (
            show_amount("memory", value)
            if name == "memory" or (name == "amount" and " memory " in about)
            else words.number(value)
        )
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {each}" for key, each in value.items()) or "none"
    return str(value)
