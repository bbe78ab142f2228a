"""Pure arithmetic of limits: which rules apply to a claim, what is used under each, and the first that refuses.

A rule has a scope (everyone, a user, a group, a project, the machine) and a sharing: `each` member may hold the amount, or all
members share one `pool` of it. Without a window it bounds what is held at once; with one it is a budget of amount x seconds over the
rolling window, used up as time passes. Lowering a rule never ends running work: it only refuses what comes next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from moorage_service.ledger.resources import Amounts, in_words, in_words_over_time


@dataclass(frozen=True, kw_only=True)
class Rule:
    id: str
    scope: str
    scope_id: str | None  # user id, group name, project id
    scope_name: str  # for people
    sharing: str
    resource: str
    amount: int
    window_s: int | None = None
    advice: str = ""  # what to do when it refuses, where that is not the same for all rules

    @property
    def words(self) -> str:
        who = {
            "everyone": "each user" if self.sharing == "each" else "all users together",
            "user": self.scope_name,
            "group": f"each member of group {self.scope_name}"
            if self.sharing == "each"
            else f"group {self.scope_name} together",
            "project": f"each user in project {self.scope_name}"
            if self.sharing == "each"
            else f"project {self.scope_name} together",
            "machine": self.scope_name or "this machine",
        }[self.scope]
        verb = "can lend" if self.scope == "machine" else "may hold"
        if self.window_s is None:
            return f"{who} {verb} at most {in_words(self.resource, self.amount)} at once"
        return (
            f"{who} may use at most {in_words_over_time(self.resource, self.amount)} in any {duration(self.window_s)}"
        )


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who asks, or who holds, and in which project."""

    user_id: str
    project_id: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Held:
    """A reservation: what a workload holds, or held."""

    workload_id: str
    kind: str
    name: str
    owner_name: str
    owner: Owner
    amounts: Amounts
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A rule as it stands for one claim."""

    rule: Rule
    used: int
    holders: list[Held] = field(default_factory=list)

    @property
    def left(self) -> int:
        return max(0, self.rule.amount - self.used)


def applies(rule: Rule, owner: Owner) -> bool:
    match rule.scope:
        case "everyone" | "machine":
            return True
        case "user":
            return rule.scope_id == owner.user_id
        case "group":
            return rule.scope_id in owner.groups
        case "project":
            return rule.scope_id == owner.project_id
    return False


def counts(rule: Rule, owner: Owner, other: Owner) -> bool:
    """Whether what `other` holds counts against `rule` when `owner` asks."""
    if not applies(rule, other):
        return False
    if rule.scope == "machine" or rule.sharing == "pool":
        return True
    return other.user_id == owner.user_id


def standing(rule: Rule, owner: Owner, held: Sequence[Held], now: datetime) -> Standing:
    counted = [each for each in held if rule.resource in each.amounts and counts(rule, owner, each.owner)]
    if rule.window_s is None:
        counted = [each for each in counted if each.until is None]
        return Standing(rule=rule, used=sum(each.amounts[rule.resource] for each in counted), holders=counted)
    start = now - timedelta(seconds=rule.window_s)
    used = sum(each.amounts[rule.resource] * _overlap_s(each, start, now) for each in counted)
    return Standing(rule=rule, used=round(used), holders=[each for each in counted if each.until is None])


def standings(rules: Iterable[Rule], owner: Owner, held: Sequence[Held], now: datetime) -> list[Standing]:
    return [standing(rule, owner, held, now) for rule in rules if applies(rule, owner)]


def refuses(found: Standing, asked: Amounts) -> bool:
    """A budget refuses once it is used up; an amount at once refuses what does not fit."""
    wanted = asked.get(found.rule.resource, 0)
    if wanted == 0:
        return False
    if found.rule.window_s is not None:
        return found.used >= found.rule.amount
    return found.used + wanted > found.rule.amount


def _overlap_s(held: Held, start: datetime, end: datetime) -> float:
    return max(0.0, (min(held.until or end, end) - max(held.since, start)).total_seconds())


def duration(seconds: int) -> str:
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            count = seconds // length
            return name if count == 1 else f"{count} {name}s"
    return f"{seconds} seconds"
