"""What admins did by their rights."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """Who did what to which thing, what it was before and after, and why. Never changed; a later one has a greater `id`."""

    id: int = 0  # of services before 0.2: not told
    at: str
    actor: str
    action: str
    target: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    why: str | None = None
