"""The check, for admins and for a monitor that can't run a command on the machine."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Query

from moorage_service.admin import check as checks
from moorage_service.admin.findings import Finding
from moorage_service.context import Ctx
from moorage_service.identity.callers import RequireAdmin

router = APIRouter(prefix="/check", tags=["admin"])
MOST_PATIENCE_S = 5  # a request holds a thread; the command may wait longer


@dataclass(frozen=True, kw_only=True)
class Checked:
    """`sound`: nothing was found. Findings are sorted by invariant."""

    sound: bool
    findings: list[Finding] = field(default_factory=list)


@router.get("")
def check(
    context: Ctx, caller: RequireAdmin, patience_s: Annotated[float, Query(ge=0, le=MOST_PATIENCE_S)] = 2.0
) -> Checked:
    """Whether anything is orphaned, lost, held too long, doubled, stuck or unexplained, as `moorage admin check` says it.

    What is under way counts only if it is still there `patience_s` later.
    """
    outcome = checks.examine(context, patience_s=patience_s)
    return Checked(sound=outcome.sound, findings=outcome.findings)
