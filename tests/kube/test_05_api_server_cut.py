"""The API server is cut off from hub and service for seconds, for minutes: none needs a restart, and nothing is decided blindly."""

import time

import pytest

from moorage_spawners.launch.labels import OWNER, WORKLOAD
from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import Person
from tests.kernels import Kernel
from tests.kube.led import Led, phase
from tests.kube.people import Crowd
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT_S)
CUTS_S = (5.0, 60.0, 180.0)
FRESH_S = 30.0  # the pass rule
LOOK_S = 0.2


@pytest.mark.parametrize("how", ["resetting", "dropping"])
def test_after_a_cut_the_view_is_fresh_and_nothing_was_decided_meanwhile(
    crowd: Crowd, led: Led, scale: Scale, report: Report, how: str
) -> None:
    rounds = scale.rounds(5, short=1)
    as_they_were = led.begin().pods()
    people = crowd.people[: len(CUTS_S)]
    slowest, oldest = 0.0, 0.0
    with crowd.at_work(crowd.keeper) as (kernel,):
        for _ in range(rounds):
            with crowd.at_work(*people):
                for person, length in zip(people, CUTS_S, strict=True):
                    age, fresh_after = cut_off(led, how, scale.seconds(length), person, kernel)
                    slowest, oldest = max(slowest, fresh_after), max(oldest, age)
        assert kernel.run("print(count)") == str(rounds * len(CUTS_S))
    assert led.pods() == as_they_were
    crowd.check()
    report(5, rounds=rounds * len(CUTS_S), restarts=0, ends_decided_blindly=0, kernels_lost=0, seconds_was_the_oldest_picture=round(oldest),
           seconds_until_fresh=round(slowest, 1))  # fmt: skip


def cut_off(led: Led, how: str, seconds: float, lost: Person, kernel: Kernel) -> tuple[float, float]:
    """While it lasts, a pod of `lost` is deleted. What the gauge rose to, and how long after the cut hub and service knew of the pod."""
    others = [pod["metadata"] for pod in led.crowd.pods() if pod["metadata"]["labels"][OWNER] != led.crowd.owners[lost.name]]
    running = {name for each in others for name in (each["name"], each["labels"][WORKLOAD])}
    held = led.held()
    count = int(kernel.run("count += 1; print(count)"))
    with getattr(led.proxy, how)():
        begun = time.monotonic()
        led.delete_pod(lost)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))  # the fault itself
        lasted = time.monotonic() - begun
        age = led.age()
        assert age >= lasted
        assert kernel.run("print(count)") == str(count)
        assert (phase(lost), led.held()) == ("ready", held)
        if age > led.watch["stale"]:
            parts = led.crowd.admin.api("GET", "/health")["parts"]
            assert not next(part for part in parts if part["name"] == "watch")["ok"]
    ended = time.monotonic()
    eventually(lambda: led.sees_the_end_of(lost), within=FRESH_S, what="the end of the pod", every=LOOK_S)
    fresh_after = time.monotonic() - ended
    # Nothing is removed of what runs; tidying up after what has ended is another matter.
    removed = {each.path.rpartition("/")[2] for each in led.asked_since(begun) if each.method == "DELETE"}
    assert removed.isdisjoint(running)
    eventually(
        lambda: {pod["metadata"]["uid"] for pod in led.crowd.pods()} == {each["uid"] for each in others},
        what="the others alone", every=LOOK_S,
    )
    return age, fresh_after
