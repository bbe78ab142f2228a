"""Which tests may run at the same time, in three processes on two cores, for most of them wait (`make test`; a narrowed run has one).

Tests of one group run in one process, one after the other. A file is a group, so that what its tests share is made once; beyond
that, what takes the machine for itself: real clusters, a whole installation, builds.
"""

import pytest

# Those that take longest come first, so that no process is left with one of them at the end.
FIRST = ("clusters", "installation", "builds")
_FIXTURES = {"whole": "installation", "keeper": "installation", "own_whole": "installation", "build": "builds", "builder": "builds"}


def group(item: pytest.Item) -> str:
    """`clusters`: the story, and whatever starts Ray or Dask; two of them would wait for one another's cores."""
    file, module = item.location[0], getattr(item, "module", None)
    if file.startswith("tests/e2e/") or hasattr(module, "engine_environment"):
        return "clusters"
    named = {_FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in _FIXTURES}
    return min(named) if named else file


def arrange(items: list[pytest.Item]) -> None:
    """Marks each with its group, and puts the long ones first."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: FIRST.index(name) if (name := group(item)) in FIRST else len(FIRST))
