"""Requests whose service is killed while it carries them out: at a named point, then started again, then asked again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.installation import Installation
from tests.waiting import eventually

Ask = Callable[[httpx.Client], httpx.Response]


@dataclass
class Tally:
    """What was seen over all rounds. `kills` counts rounds in which the point was really reached."""

    rounds: int = 0
    kills: int = 0
    unanswered: int = 0  # requests that the crash cut off, and that were sent again
    missed: list[str] = field(default_factory=list)  # points that were not reached


def spread(points: Sequence[str], rounds: int) -> list[str]:
    """Each point in turn."""
    return [points[number % len(points)] for number in range(rounds)]


def ask_through_crash(installation: Installation, point: str, ask: Ask, tally: Tally, *, user: str = "ada") -> Any:
    """Sends the request to a service that dies at `point`, during it or afterwards; starts one that does not, and asks that too.

    Returns what the second one answers. The request must be one that may be repeated.
    """
    for service in installation.services:
        service.kill()
    doomed = installation.start(crash_at=point)
    tally.rounds += 1
    if doomed.status() is None:
        try:
            with installation.api(user, doomed) as http:
                ask(http)
        except httpx.TransportError:
            tally.unanswered += 1
        dies(doomed.status, point, tally)
        doomed.kill()
    else:
        tally.kills += 1  # while it started: something of an earlier round was waiting
    installation.start()
    with installation.api(user) as http:
        answer = ask(http)
    assert answer.is_success, answer.text
    return answer.json()


def dies(status: Callable[[], int | None], point: str, tally: Tally, *, within: float = 20) -> None:
    try:
        eventually(lambda: status() is not None, within=within, what=f"the crash at {point}")
    except AssertionError:
        tally.missed.append(point)
    else:
        tally.kills += 1
