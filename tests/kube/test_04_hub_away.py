"""The hub is away for long, and notebooks are deleted, end and live on meanwhile: when it is back, its view is the cluster's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import ENDED, Person
from tests.kube.people import Crowd
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT_S)
AWAY_S = 600.0
SHORT_S = 5.0
AGREED_S = 60.0  # the pass rule


def test_a_hub_that_was_away_sees_what_the_cluster_shows(crowd: Crowd, scale: Scale, report: Report) -> None:
    each = 5 if scale.full else 1
    deleted, finished, living = (
        crowd.people[:each],
        crowd.people[each : 2 * each],
        crowd.people[2 * each :][: max(2, each)],
    )
    rounds, slowest = scale.rounds(10, short=1), 0.0
    for _ in range(rounds):
        with crowd.at_work(*deleted, *finished, *living) as kernels:
            with away(crowd, AWAY_S if scale.full else SHORT_S):
                for person in deleted:
                    delete_pod(crowd, person)
                for person in finished:
                    finish(crowd, person)
                eventually(
                    lambda: all_ended(crowd, [*deleted, *finished]), what="the end of what was deleted or finished"
                )
            begun = time.monotonic()
            eventually(lambda: hub_agrees(crowd, living, [*deleted, *finished]), within=AGREED_S, what="the hub's view")
            slowest = max(slowest, time.monotonic() - begun)
            for person in (*deleted, *finished):
                told = person.notebook()
                assert told is not None
                assert told["reason"], told
            alive = kernels[-len(living) :]
            assert [kernel.run("count += 1; print(count)") for kernel in alive] == ["1"] * len(living)
            ends_as_ever(crowd, living)
        crowd.check()
    report(4, rounds=rounds, deleted=rounds * each, finished=rounds * each, lived=rounds * len(living), kernels_lost=0,
           seconds_until_hub_agreed=round(slowest, 1))  # fmt: skip


@contextmanager
def away(crowd: Crowd, seconds: float) -> Iterator[None]:
    """The hub, for as long at least; back when this ends."""
    crowd.release.scale("hub", 0)
    begun = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, begun + seconds - time.monotonic()))  # the fault itself
    finally:
        crowd.release.scale("hub", 1)


def ends_as_ever(crowd: Crowd, living: list[Person]) -> None:
    """Of those that lived on one is stopped by its owner, another one's pod is deleted: the hub notes both."""
    stopped, lost = living[0], living[1]
    crowd.stop([stopped])
    delete_pod(crowd, lost)
    eventually(lambda: crowd.hub_view(stopped) == crowd.hub_view(lost) == set(), what="the hub noting both ends")
    lost.until(*ENDED)


def delete_pod(crowd: Crowd, person: Person) -> None:
    """By hand, as whoever may do so in the cluster."""
    pod = crowd.pod(person)["metadata"]
    crowd.release.kubectl("delete", "pod", pod["name"], "-n", pod["namespace"], "--wait=false")


def finish(crowd: Crowd, person: Person) -> None:
    """The server ends in good order, by itself."""
    pod = crowd.pod(person)["metadata"]
    crowd.release.kubectl("exec", "-n", pod["namespace"], pod["name"], "--", "sh", "-c", "kill -TERM 1")


def all_ended(crowd: Crowd, people: list[Person]) -> bool:
    """In the cluster, and in the service's view."""
    return not crowd.pods(*people) and all((person.notebook() or {}).get("phase") in ENDED for person in people)


def hub_agrees(crowd: Crowd, living: list[Person], ended: list[Person]) -> bool:
    return all(crowd.hub_view(each) == {"starter"} for each in living) and not any(
        crowd.hub_view(each) for each in ended
    )
