"""Wire values in words, for templates."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar

from markupsafe import Markup, escape

from moorage.quantities import show_amount
from moorage.wire import Phase, Remaining, Size
from moorage_service.clock import utc_now
from moorage_service.ledger.resources import in_words_over_time

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ORDER = ("cpu", "memory", "gpu")
_COUNTS = ("notebooks", "clusters", "runs")
_NAMES = {
    "cpu": "CPU",
    "memory": "Memory",
    "gpu": "GPUs",
    "notebooks": "Notebooks",
    "clusters": "Clusters",
    "runs": "Runs",
}
_TONES = {
    Phase.READY: "good", Phase.RUNNING: "good", Phase.SUCCEEDED: "good",
    Phase.QUEUED: "wait", Phase.PENDING: "wait", Phase.STARTING: "wait", Phase.STOPPING: "wait",
    Phase.FAILED: "bad", Phase.STOPPED: "calm", Phase.CANCELLED: "calm", Phase.SKIPPED: "calm",
}  # fmt: skip
_BUILD_TONES = {"queued": "wait", "building": "wait", "succeeded": "good", "failed": "bad", "cancelled": "calm"}


def resource_name(resource: str) -> str:
    return f"GPUs ({resource[4:]})" if resource.startswith("gpu:") else _NAMES.get(resource, resource)


def amount(value: float, resource: str) -> str:
    return show_amount(resource, value).replace("gpu", "GPU", 1)


def over_time(value: float, resource: str) -> str:
    """What a budget counts: "2 cpu-hours"."""
    return in_words_over_time(resource, value * 1000 if resource == "cpu" else value)


def holds(amounts: Mapping[str, float]) -> list[str]:
    """What a workload holds, the machine's parts only: "2 cores", "4 GiB", "1 gpu (h200)"."""
    typed = [name for name in amounts if name.startswith("gpu:")]
    shown = [name for name in _ORDER if amounts.get(name) and not (name == "gpu" and typed)] + sorted(typed)
    return [amount(amounts[name], name) for name in shown]


def size(value: Size) -> str:
    found: dict[str, float] = {"cpu": value.cpu, "memory": value.memory}
    if value.gpu:
        found[f"gpu:{value.gpu_type}" if value.gpu_type else "gpu"] = value.gpu
    return ", ".join(holds(found))


def gib(value: float) -> str:
    return f"{value / (1 << 30):.2f}".rstrip("0").rstrip(".")


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def figure(value: float) -> str:
    """About three digits, for people: "1,234", "56.7", "0.25", "<0.01"."""
    if 0 < value < 0.005:
        return "<0.01"
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 9.995 else 2}f}".rstrip("0").rstrip(".")


def tone(phase: str) -> str:
    return _TONES.get(Phase(phase), "calm") if phase in set(Phase) else _BUILD_TONES.get(phase, "calm")


def parsed(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def span(seconds: float) -> str:
    """ "8 s", "3 min 5 s", "2 h 10 min", "4 days"."""
    total = max(0, int(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s" if total % 60 else f"{total // 60} min"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60} min" if total % 3600 >= 60 else f"{total // 3600} h"
    days = total // 86400
    return "1 day" if days == 1 else f"{days} days"


def ago(moment: str | None) -> Markup:
    """A time element: "3 min ago", or "in 2 h", that the page's script keeps true; the full time on hover."""
    if moment is None:
        return Markup("")
    passed = (utc_now() - parsed(moment)).total_seconds()
    text = "just now" if abs(passed) < 5 else (f"{coarse(passed)} ago" if passed > 0 else f"in {coarse(-passed)}")
    return Markup('<time datetime="{0}" data-ago title="{1}">{2}</time>').format(moment, clock_time(moment), text)


def past(moment: str) -> bool:
    return parsed(moment) <= utc_now()


def coarse(seconds: float) -> str:
    """One unit: "8 s", "3 min", "2 h", "4 days"."""
    for name, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if name == 'day' and count != 1 else ''}"
    return f"{int(seconds)} s"


def elapsed(start: str | None, end: str | None = None) -> Markup:
    """How long it took, or takes so far: then the page's script counts on."""
    if start is None:
        return Markup("")
    until = utc_now() if end is None else parsed(end)
    seconds = (until - parsed(start)).total_seconds()
    if end is not None:
        return Markup("<span>{0}</span>").format(f"{max(0.0, seconds):.1f} s" if seconds < 10 else span(seconds))
    text = span(seconds)
    return Markup('<time datetime="{0}" data-since>{1}</time>').format(start, text)


def clock_time(moment: str) -> str:
    """ "21 Nov 2026, 06:00:00" and its zone."""
    when = parsed(moment)
    offset = when.utcoffset()
    zone = "UTC" if not offset else f"UTC{when:%z}"
    return f"{when:%-d %b %Y, %H:%M:%S} {zone}"


def fire_time(moment: str) -> str:
    """A fire in its schedule's own zone: "Mon 23 Nov 2026, 06:00 +01:00"."""
    when = parsed(moment)
    offset = f"{when:%z}"
    return f"{when:%a %-d %b %Y, %H:%M} {offset[:3]}:{offset[3:]}"


def plain(text: str) -> str:
    """A log without the codes by which terminals colour."""
    return _ANSI.sub("", text)


def with_code(text: str) -> Markup:
    """A sentence in which `names` between backticks are shown as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )


def hour(moment: str) -> Markup:
    """A time element with the clock's time; the page's script turns it into the reader's own zone."""
    return Markup('<time datetime="{0}" data-clock title="{1}">{2}</time>').format(
        moment, clock_time(moment), f"{parsed(moment):%H:%M:%S}"
    )


def date(moment: str) -> Markup:
    return Markup('<time datetime="{0}" data-date title="{1}">{2}</time>').format(
        moment, clock_time(moment), f"{parsed(moment):%-d %b %Y, %H:%M}"
    )


class Counted(Protocol):
    """What is left of a resource, or a rule about it."""

    @property
    def resource(self) -> str: ...
    @property
    def used(self) -> float: ...
    @property
    def amount(self) -> float: ...


C = TypeVar("C", bound=Counted)


def rank(resource: str) -> int:
    """CPU, memory, GPUs, then counts."""
    names = [*_ORDER, *_COUNTS]
    kind = resource.partition(":")[0]
    return names.index(kind) if kind in names else len(names)


def in_order(items: Iterable[C]) -> list[C]:
    """By rank; GPUs of any type are left out where one type's own line says the same."""
    found = list(items)
    typed = [(item.used, item.amount) for item in found if item.resource.startswith("gpu:")]
    shown = [item for item in found if item.resource != "gpu" or (item.used, item.amount) not in typed]
    return sorted(shown, key=lambda item: rank(item.resource))


def ordered(amounts: Mapping[str, float]) -> list[tuple[str, float]]:
    shown = [
        name
        for name in amounts
        if name != "gpu" or amounts[name] not in [amounts[each] for each in amounts if each != name]
    ]
    return sorted(((name, amounts[name]) for name in shown), key=lambda pair: rank(pair[0]))


def left_percent(item: Remaining) -> int:
    return 0 if item.amount <= 0 else round(100 * min(1.0, item.used / item.amount))


FILTERS: dict[str, Callable[..., Any]] = {
    "resource_name": resource_name, "amount": amount, "holds": holds, "size": size, "gib": gib, "number": number, "tone": tone,
    "span": span, "ago": ago, "elapsed": elapsed, "clock_time": clock_time, "hour": hour, "date": date, "percent": left_percent,
    "in_order": in_order, "ordered": ordered, "over_time": over_time, "fire_time": fire_time, "plain": plain,
    "past": past, "figure": figure, "with_code": with_code,
}  # fmt: skip
