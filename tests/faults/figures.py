"""How long and how often a fault is tried, and what a test says about what it cost.

`MOORAGE_FAULTS=full` (`make faults`) tries each as often and as long as docs/reliability.md says; else the short form: at most 10
rounds, and times divided by 20. `MOORAGE_FAULTS_REPORT` names a file to which each figure is added as a line of JSON.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SHORT_ROUNDS = 10
SHORTER = 20


@dataclass(frozen=True)
class Scale:
    """The real rounds and seconds of a fault, or those of the short form."""

    full: bool

    @classmethod
    def from_environment(cls) -> "Scale":
        wish = os.environ.get("MOORAGE_FAULTS", "")
        if wish not in ("", "short", "full"):
            raise ValueError(f"MOORAGE_FAULTS={wish!r}: give full, or leave it out for the short form")
        return cls(wish == "full")

    def rounds(self, count: int, *, short: int = SHORT_ROUNDS) -> int:
        """`short`: how many of them the short form tries at most, where one costs seconds."""
        return count if self.full else min(count, short)

    def seconds(self, duration: float) -> float:
        return duration if self.full else duration / SHORTER


@dataclass
class Report:
    """One test's line: `report(1, kills=200, orphans=0)` prints it with what it cost, and keeps it for the table."""

    scale: Scale
    test: str
    begun: float = field(default_factory=time.perf_counter)
    lines: list[str] = field(default_factory=list)

    def __call__(self, fault: int, **figures: Any) -> None:
        took = round(time.perf_counter() - self.begun, 1)
        said = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in figures.items())
        line = f"fault {fault}: {said}, {took} s"
        self.lines.append(line)
        sys.stdout.write(f"{line}\n")
        named = os.environ.get("MOORAGE_FAULTS_REPORT")
        if named:
            entry = {"fault": fault, "test": self.test, "full": self.scale.full, "figures": figures, "seconds": took}
            with Path(named).open("a") as file:
                file.write(json.dumps(entry) + "\n")


# For `pytest.mark.timeout` of tests that may have to bring up a node first.
LIMIT_S = 4 * 3600 if Scale.from_environment().full else 1200


@pytest.fixture(scope="session")
def scale() -> Scale:
    return Scale.from_environment()


@pytest.fixture
def report(request: pytest.FixtureRequest, scale: Scale, capsys: pytest.CaptureFixture[str]) -> Iterator[Report]:
    """A test that says nothing about what it cost has not been finished."""
    made = Report(scale, request.node.nodeid)
    yield made
    with capsys.disabled():
        for line in made.lines:
            print(f"\n{line}", end="")
