"""Waiting on conditions, never on time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T | None], *, within: float = 60.0, what: str = "the condition") -> T:
    """Asks until the answer is true, and returns it. Fails with the last answer after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s; last answer: {answer!r}")
        time.sleep(0.02)
