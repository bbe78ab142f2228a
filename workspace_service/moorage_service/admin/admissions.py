"""Every admission judged once more, from what is kept: the reservations over time, and the limits as they were then.

A limit that was lowered ends nothing, so only the moment of an admission counts, against the limit of that moment. Limits that were
removed are not known any more. Who belonged to which group is known as of each admission.
"""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from moorage_service.admin.facts import LOOK_BACK, Facts
from moorage_service.ledger import admission
from moorage_service.ledger.limits import Held, Owner, Rule, applies, counts, standing
from moorage_service.ledger.resources import in_words, in_words_over_time, to_units
from moorage_service.store.records import ODD
from moorage_service.store.tables import AuditRow, LimitRow, ReservationRow

__all__ = ["LOOK_BACK", "Over", "exceeded"]
SAME = timedelta(seconds=1)
CAPACITY = "capacity.set"  # the audit's word for what the machine lends


@dataclass(frozen=True)
class Over:
    workload_id: str
    limit_id: str
    at: datetime
    rule: str
    held: str


@dataclass(frozen=True)
class Dated:
    """A rule with the amounts it had: from when on, how much; oldest first."""

    rule: Rule
    amounts: tuple[tuple[datetime, int], ...]

    def at(self, moment: datetime) -> int | None:
        """None: there was no such rule yet. A change in the very same moment may have come after what it is compared with."""
        before = [amount for since, amount in self.amounts if since <= moment - SAME]
        during = [amount for since, amount in self.amounts if moment - SAME < since <= moment]
        return max([before[-1], *during]) if before else None


def exceeded(facts: Facts) -> Iterator[Over]:
    """Each admission after which more was held than a limit allowed."""
    held = sorted((_held(facts, row) for row in facts.reservations.values()), key=lambda each: each.since)
    dated = [*_limits(facts), *_machine(facts)]
    at_once = [each for each in dated if each.rule.window_s is None]
    budgets = [each for each in dated if each.rule.window_s is not None]
    for claim, live in _instants(held):
        for each in at_once:
            amount = each.at(claim.since)
            asked = claim.amounts.get(each.rule.resource, 0)
            if amount is None or not asked or not applies(each.rule, claim.owner):
                continue
            total = sum(
                one.amounts.get(each.rule.resource, 0) for one in live if counts(each.rule, claim.owner, one.owner)
            )
            if total > amount:
                yield Over(
                    claim.workload_id,
                    each.rule.id,
                    claim.since,
                    _words(each.rule, amount),
                    in_words(each.rule.resource, total),
                )
        for each in budgets:
            amount = each.at(claim.since)
            if amount is None or not claim.amounts.get(each.rule.resource, 0) or not applies(each.rule, claim.owner):
                continue
            used = standing(each.rule, claim.owner, _as_of(held, claim), claim.since).used
            if used >= max(1, amount):
                words = in_words_over_time(each.rule.resource, used)
                yield Over(claim.workload_id, each.rule.id, claim.since, _words(each.rule, amount), words)


def _instants(held: list[Held]) -> Iterator[tuple[Held, list[Held]]]:
    """Each claim, with everything that was held just after its admission, itself among it."""
    live: dict[int, Held] = {}
    ends: list[tuple[datetime, int]] = []
    for number, claim in enumerate(held):
        while ends and ends[0][0] <= claim.since:
            live.pop(heapq.heappop(ends)[1])
        live[number] = claim
        if claim.until is not None:
            heapq.heappush(ends, (claim.until, number))
        yield claim, list(live.values())


def _as_of(held: list[Held], claim: Held) -> list[Held]:
    """What a budget counted just before the claim: nothing later, and nothing longer than until then."""
    return [each for each in held if each.since < claim.since and each is not claim]


def _held(facts: Facts, row: ReservationRow) -> Held:
    workload = facts.workloads.get(row.workload_id)
    user = facts.users.get(row.user_id)
    groups = admission.groups_of(user.groups) if user is not None else frozenset()
    with suppress(*ODD):
        groups = frozenset(groups if workload is None else workload.details["groups"])
    return Held(
        workload_id=row.workload_id, kind="" if workload is None else workload.kind, name="", owner_name="",
        owner=Owner(user_id=row.user_id, project_id=row.project_id, groups=groups),
        amounts={} if workload is None else admission.amounts_of(row.amounts, workload.kind), since=row.created_at, until=row.released_at,
    )  # fmt: skip


def _limits(facts: Facts) -> Iterator[Dated]:
    for row in facts.limits:
        if row.scope not in admission.SCOPES or row.sharing not in admission.SHARINGS:
            continue
        rule = Rule(
            id=row.id, scope=row.scope, scope_id=row.scope_id, scope_name=row.scope_id or "", sharing=row.sharing,
            resource=row.resource, amount=row.amount, window_s=row.window_s,
        )  # fmt: skip
        yield Dated(rule, tuple(_amounts_of(row, facts.audit)))


def _amounts_of(row: LimitRow, audit: Iterable[AuditRow]) -> list[tuple[datetime, int]]:
    """From the audit, where it names the limit; else the amount of today, from the limit's beginning on."""
    found = []
    for entry in audit:
        with suppress(*ODD):
            if entry.action == "limit.set" and entry.after is not None and entry.after["limit"] == row.id:
                found.append((entry.at, to_units(row.resource, entry.after["amount"])))
    return found or [(row.created_at, row.amount)]


def _machine(facts: Facts) -> Iterator[Dated]:
    """What the machine lent, as each start of the service noted it."""
    seen: dict[str, list[tuple[datetime, int]]] = {}
    for entry in facts.audit:
        with suppress(*ODD):
            if entry.action == CAPACITY and entry.after is not None:
                for resource, amount in entry.after.items():
                    seen.setdefault(resource, []).append((entry.at, to_units(resource, amount)))
    for resource, amounts in seen.items():
        rule = Rule(
            id=f"machine-{resource}", scope="machine", scope_id=None, scope_name="", sharing="pool", resource=resource,
            amount=amounts[-1][1],
        )  # fmt: skip
        yield Dated(rule, tuple(amounts))


def _words(rule: Rule, amount: int) -> str:
    return replace(rule, amount=amount).words
