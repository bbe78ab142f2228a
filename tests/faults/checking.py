"""The end of every fault test: the invariants hold, by the very code of `moorage admin check`."""

from pathlib import Path

from moorage_service.admin import check as checks
from moorage_service.admin.opening import opened
from moorage_service.context import Context
from tests.faults.installation import Installation

SETTLE_S = 60.0


def check(target: Context | Installation, *, settle_s: float = SETTLE_S, allowed: frozenset[str] = frozenset()) -> None:
    """Fails with the findings, in words, that are still there `settle_s` seconds later. Sound already: returns at once.

    `allowed`: codes of findings that the test provoked and nobody could have prevented. Whatever reconciles must run by itself.
    """
    if isinstance(target, Installation):
        with target.context() as context:
            _check(context, settle_s, allowed)
    else:
        _check(target, settle_s, allowed)


def _check(context: Context, settle_s: float, allowed: frozenset[str]) -> None:
    outcome = checks.examine(context, patience_s=settle_s, allowed=allowed)
    assert outcome.sound, "\n".join(checks.in_words(outcome))


def check_at(state: Path, *, settle_s: float = SETTLE_S) -> None:
    """The same, of an installation that is more than a service (tests/faults/whole.py)."""
    with opened(state) as context:
        _check(context, settle_s, frozenset())
