"""When a cluster ends by itself: with its notebook, idle, or too old. Pure arithmetic on what was observed.

Three clocks, each with a setting. None ends a cluster that was not warned before, and each goes by what was seen: what is not known
(an agent that is silent, or too old to tell) never counts as idle, and what its owner keeps no clock ends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from moorage.wire.clusters import OnNotebookEnd
from moorage_service.clock import to_text

Rule = Literal["notebook", "idle", "lifetime"]
CODES: dict[Rule, str] = {
    "notebook": "cluster.notebook_gone", "idle": "cluster.idle", "lifetime": "cluster.too_old",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ending:
    """An end that was announced, `why` as its owner reads it."""

    rule: Rule
    at: datetime
    why: str


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """What the store keeps of it. `follows`: ids of the projects whose notebook (the owner's) it ends with."""

    on_notebook_end: OnNotebookEnd = "keep"
    follows: tuple[str, ...] = ()
    keep_until: datetime | None = None
    ending: Ending | None = None

    def to_store(self) -> dict[str, Any]:
        ending = self.ending
        return {
            "on_notebook_end": self.on_notebook_end,
            "follows": list(self.follows),
            "keep_until": None if self.keep_until is None else to_text(self.keep_until),
            "ending": None if ending is None else {"rule": ending.rule, "at": to_text(ending.at), "why": ending.why},
        }

    @classmethod
    def from_store(cls, details: Mapping[str, Any]) -> "Lifetime":
        """Of a workload's details. One of an earlier release has none, and is kept."""
        stored = details.get("lifetime", {})
        ending = stored.get("ending")
        return cls(
            on_notebook_end=stored.get("on_notebook_end", "keep"),
            follows=tuple(stored.get("follows", ())),
            keep_until=_moment(stored.get("keep_until")),
            ending=None if ending is None else Ending(rule=ending["rule"], at=_when(ending["at"]), why=ending["why"]),
        )


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """The settings, in seconds. 0: that clock never ends a cluster."""

    orphan_s: float
    idle_s: float
    lifetime_s: float
    warn_s: float

    def of(self, rule: Rule) -> float:
        return {"notebook": self.orphan_s, "idle": self.idle_s, "lifetime": self.lifetime_s}[rule]

    def lead(self, rule: Rule) -> timedelta:
        """How long before the end it is announced."""
        return timedelta(seconds=min(self.warn_s, self.of(rule)))


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What was last seen. `alone_since`: no notebook that it follows has run since (None: one runs). `idle_s` None: not known."""

    now: datetime
    created_at: datetime
    alone_since: datetime | None = None
    idle_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The lifetime to keep; `told`: an event's code and sentence; `stop`: the end's code and reason, to be carried out now."""

    lifetime: Lifetime
    told: tuple[str, str] | None = None
    stop: tuple[str, str] | None = None


def judge(life: Lifetime, signals: Signals, clocks: Clocks) -> Verdict:
    """Announces an end that has come near, takes it back when its signal has gone, carries it out when its time has come."""
    due = {rule: at for rule, at in _due(life, signals, clocks) if at - signals.now <= clocks.lead(rule)}
    held = life.ending
    if held is not None and held.rule == "idle" and signals.idle_s is None:
        return Verdict(lifetime=life)  # not known: neither ended nor taken back
    if held is not None and held.rule in due:
        sooner = {rule: at for rule, at in due.items() if max(at, signals.now + clocks.lead(rule)) < held.at}
        sooner.pop(held.rule, None)
        if not sooner:
            if signals.now >= held.at and signals.now >= due[held.rule]:
                return Verdict(lifetime=life, stop=(CODES[held.rule], _ended(held.rule, signals, clocks)))
            return Verdict(lifetime=life)
        due = sooner
    if due:
        rule = min(due, key=lambda each: due[each])
        # The whole warning, also when nobody could look for a while: the service may have been away.
        at = max(due[rule], signals.now + clocks.lead(rule))
        why = _announced(rule, signals, clocks)
        told = f"{why} It is stopped in {in_words((at - signals.now).total_seconds())} unless {_unless(rule)}."
        return Verdict(
            lifetime=replace(life, ending=Ending(rule=rule, at=at, why=why)), told=("cluster.will_stop", told)
        )
    if held is not None:
        return Verdict(
            lifetime=replace(life, ending=None), told=("cluster.stays", f"It stays: {_stays(held, life, signals)}.")
        )
    return Verdict(lifetime=life)


def _due(life: Lifetime, signals: Signals, clocks: Clocks) -> Iterator[tuple[Rule, datetime]]:
    """When each clock that runs would end it."""
    least = life.keep_until or signals.created_at
    if life.on_notebook_end == "stop" and signals.alone_since is not None:
        yield "notebook", max(least, signals.alone_since + timedelta(seconds=clocks.orphan_s))
    if clocks.idle_s and signals.idle_s is not None:
        yield "idle", max(least, signals.now + timedelta(seconds=clocks.idle_s - signals.idle_s))
    if clocks.lifetime_s:
        yield "lifetime", max(least, signals.created_at + timedelta(seconds=clocks.lifetime_s))


def _announced(rule: Rule, signals: Signals, clocks: Clocks) -> str:
    if rule == "notebook":
        return "Its notebook has ended."
    if rule == "idle":
        return f"It has had neither work nor a client for {in_words(signals.idle_s or 0)}."
    return f"It is {_age(signals)} old, and clusters live for {in_words(clocks.lifetime_s)} here."


def _unless(rule: Rule) -> str:
    return {
        "notebook": "the notebook is started again or you keep the cluster",
        "idle": "work or a client comes or you keep it",
        "lifetime": "you keep it",
    }[rule]


def _ended(rule: Rule, signals: Signals, clocks: Clocks) -> str:
    """The reason that stays: which signal decided, and its last value."""
    if rule == "notebook":
        assert signals.alone_since is not None
        alone = in_words((signals.now - signals.alone_since).total_seconds())
        return f"Stopped with its notebook, which ended {alone} ago and was not started again."
    if rule == "idle":
        return (
            f"Stopped for idleness: neither work nor a client for {in_words(signals.idle_s or 0)} "
            f"(allowed: {in_words(clocks.idle_s)})."
        )
    return f"Stopped for its age: it was {_age(signals)} old (allowed: {in_words(clocks.lifetime_s)})."


def _stays(held: Ending, life: Lifetime, signals: Signals) -> str:
    if life.keep_until is not None and life.keep_until > signals.now:
        return f"it is kept for another {in_words((life.keep_until - signals.now).total_seconds())}"
    if held.rule == "notebook":
        return "a notebook of its owner runs" if life.on_notebook_end == "stop" else "it is kept when its notebook ends"
    return "work or a client came" if held.rule == "idle" else "clusters may live longer now"


def _age(signals: Signals) -> str:
    return in_words((signals.now - signals.created_at).total_seconds())


def in_words(seconds: float) -> str:
    """ "40 s", "12 min", "7.5 h", "7 days"."""
    for name, length, few in ((" days", 86400, 2), (" h", 3600, 2), (" min", 60, 2)):
        if seconds >= few * length:
            return f"{round(seconds / length, 1):g}{name}"
    return f"{seconds:.0f} s"


def _when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else _when(text)
