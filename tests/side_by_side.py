"""Which tests may run at the same time, in three processes on two cores, for most of them wait (`make test`; a narrowed run has one).

Tests of one group run in one process, one after the other. A file is a group, so that what its tests share is made once; beyond
that, what takes the machine for itself: real clusters, a whole installation, builds.
"""

import functools
import re
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
# What a file of the group says. Those that take longest come first, so that no process is left with one of them at the end.
GROUPS = {
    "clusters": r"tests\.e2e\.installation|\bengine_environment\b|\btests\.faults\.drivers\b",
    "installation": r"\btests\.faults\.whole\b",
    "pods": r'"127\.0\.0\.9"|\btests\.hub\.test_pods\b',  # at one address
    "builds": r"tests\.conftest import .*\bBuild\b|\bbuilder: Builder\b",
}


@functools.cache
def group(file: str) -> str:
    """Of a test file, by its path below the checkout."""
    text = (ROOT / file).read_text()
    return next((name for name, said in GROUPS.items() if re.search(said, text)), file)


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]  # xdist's schedulers carry no types
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid.partition("::")[0])


def arrange(items: list[pytest.Item]) -> None:
    """Puts the long groups first; the others stay as they are."""
    order = list(GROUPS)
    items.sort(key=lambda item: order.index(name) if (name := group(item.location[0])) in GROUPS else len(order))
