"""Waiting on conditions, never on time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T | None], *, within: float = 60.0, what: str = "the condition", every: float = 0.02) -> T:
    """Asks until the answer is true, and returns it. Fails with the last answer after `within` seconds.

    `every`: between two looks, in seconds; more where many wait at once for something that must not be slowed by it.
    """
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s; last answer: {answer!r}")
        time.sleep(every)
