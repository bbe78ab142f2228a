"""The check: every invariant judged, and judged again until what is found is either gone or sure."""

import time
from dataclasses import dataclass

from moorage_service.admin import facts, invariants
from moorage_service.admin.facts import Facts
from moorage_service.admin.findings import INVARIANTS, Finding
from moorage_service.context import Context

LOOK_AGAIN_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """`facts`: of the last look."""

    findings: list[Finding]
    facts: Facts

    @property
    def sound(self) -> bool:
        return not self.findings


def judge(found: Facts) -> list[Finding]:
    """All findings of one look."""
    return [finding for invariant in invariants.ALL for finding in invariant(found)]


def examine(context: Context, *, patience_s: float, allowed: frozenset[str] = frozenset()) -> Outcome:
    """Looks until nothing is found, or for `patience_s`; then what was found and has been there for at least half of that.

    Work that is under way looks like a finding for a moment: it is gone at a later look.
    Findings whose codes are `allowed` are left out. Raises SQLAlchemyError or OSError when it can't look.
    """
    begun = time.monotonic()
    since: dict[tuple[str, str], float] = {}  # how long each has been there without a break
    while True:
        seen = facts.gather(context)
        findings = [finding for finding in judge(seen) if finding.code not in allowed]
        now = time.monotonic()
        since = {finding.key: since.get(finding.key, now) for finding in findings}
        lasting = [finding for finding in findings if now - since[finding.key] >= patience_s / 2]
        # One that came late gets its time, too.
        if not findings or now - begun >= patience_s * (1 if len(lasting) == len(findings) else 2):
            return Outcome(lasting, seen)
        time.sleep(min(LOOK_AGAIN_S, max(0.01, patience_s)))


def in_words(outcome: Outcome) -> list[str]:
    """Lines for people."""
    seen = outcome.facts
    live = len(seen.live)
    looked = f"{live} live workloads, {len(seen.workloads) - live} ended ones, {len(seen.processes)} with processes"
    if outcome.sound:
        return [f"Sound: {looked}; every invariant holds."]
    lines = [f"{len(outcome.findings)} findings among {looked}:"]
    for name, words in INVARIANTS.items():
        mine = [finding for finding in outcome.findings if finding.invariant == name]
        if mine:
            lines.append(f"{name} ({words}):")
            lines += [f"  {finding.what} {finding.remedy}" for finding in mine]
    return lines
