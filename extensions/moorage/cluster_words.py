"""A cluster in words, as people read them in a cell, a card and a terminal."""

from datetime import UTC, datetime

from moorage import wire
from moorage.progress import show_elapsed

USABLE = frozenset({wire.Phase.PENDING, wire.Phase.STARTING, wire.Phase.READY})


def status_line(state: wire.Cluster) -> str:
    """ "ray-1: ready, 2 of at most 4 workers"; with its reason when there is one."""
    line = f"{state.name}: {state.phase}"
    if state.phase in USABLE:
        line += f", {state.workers} of at most {state.spec.max_workers} workers"
    line = line if not state.reason else f"{line} - {state.reason.rstrip('.')}"
    return line if state.stops_at is None else f"{line} - {ending_text(state)}"


def ending_text(state: wire.Cluster, now: datetime | None = None) -> str:
    """ "Its notebook has ended; stops in 1 min 40 s": why a clock is about to end it, and when. "" when none is."""
    if state.stops_at is None or state.phase.ended:
        return ""
    return f"{(state.stops_why or 'A clock runs').rstrip('.')}; stops in {show_elapsed(seconds_until(state.stops_at, now))}"


def keeping_text(state: wire.Cluster, now: datetime | None = None) -> str:
    """What ends it by itself: "ends with its notebook; kept for 59 min 3 s"."""
    text = "ends with its notebook" if state.on_notebook_end == "stop" else "goes on when its notebook ends"
    left = 0.0 if state.keep_until is None else seconds_until(state.keep_until, now)
    return f"{text}; kept for {show_elapsed(left)}" if left > 0 else text


def seconds_since(moment: str, now: datetime | None = None) -> float:
    """Seconds from an ISO 8601 time of the service until now; 0 when it cannot be read, or is yet to come."""
    return max(0.0, _passed(moment, now))


def seconds_until(moment: str, now: datetime | None = None) -> float:
    """Seconds from now to such a time; 0 when it cannot be read, or has passed."""
    return max(0.0, -_passed(moment, now))


def _passed(moment: str, now: datetime | None) -> float:
    try:
        start = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    if start.tzinfo is None:
        start = start.replace(tzinfo=UTC)
    return ((now or datetime.now(UTC)) - start).total_seconds()


def ended_sentence(state: wire.Cluster) -> str:
    why = f": {state.reason.rstrip('.')}" if state.reason else ""
    last = f" (last: {state.events[-1].message.rstrip('.')})" if state.events and not state.reason else ""
    return f"Cluster {state.name} is {state.phase}{why}{last}. See `moorage cluster log {state.name}`; create it anew."
