"""Twenty people start notebooks at once on two cores: all reach a kernel, or read why not."""

import time

import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import Person
from tests.kube.people import NO_ROOM, Crowd, ask, kernel_of, settled, settled_or_waits

pytestmark = pytest.mark.timeout(LIMIT_S)


def calculates(person: Person) -> bool:
    return kernel_of(person).run("print(6 * 7)") == "42"


def test_all_reach_a_kernel_or_read_why_not(crowd: Crowd, scale: Scale, report: Report) -> None:
    """One is refused, by a limit that all share; whoever finds the node full reads that, and is next when others go."""
    people = crowd.people if scale.full else crowd.people[:10]
    begun = time.monotonic()
    with crowd.limited("notebooks", len(people) - 1):
        crowd.together(ask, people)
        said = dict(zip(people, crowd.together(settled_or_waits, people), strict=True))
    ready = [person for person, word in said.items() if word == "ready"]
    waiting = [person for person, word in said.items() if word.startswith(NO_ROOM)]
    (refused,) = [word for person, word in said.items() if person not in (*ready, *waiting)]
    assert f"all users together may hold at most {len(people) - 1} notebooks at once" in refused, refused
    assert all(crowd.together(calculates, ready))
    took = time.monotonic() - begun
    assert len({pod["metadata"]["namespace"] for pod in crowd.pods()}) == len(people) - 1
    crowd.check()
    crowd.stop(ready)
    if waiting:
        assert set(crowd.together(settled, waiting)) == {"ready"}
        assert all(crowd.together(calculates, waiting))
        crowd.stop(waiting)
    crowd.check()
    report(
        0, case="starts at once", starts=len(people), kernels=len(ready) + len(waiting), waited_for_room=len(waiting), refused=1,
        seconds_until_all_calculated=round(took, 1),
    )  # fmt: skip
