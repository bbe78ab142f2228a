"""The API server answers, and not with what was asked for: it has forgotten, has too much to do, or fails."""

import time
from collections import Counter

import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import ENDED, Person
from tests.kube.led import Led
from tests.kube.people import Crowd, ask
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT_S)
REFUSING_S = 60.0
LEAST_S = 10.0  # a rate is no rate over less
MOST_PER_S = 2.0  # the pass rule: of each caller, for one thing
CONVERGED_S = 60.0
LOOK_S = 0.2
GONE = 410


@pytest.mark.parametrize("status", [GONE, 429, 500])
def test_a_server_that_refuses_is_asked_again_seldom_and_all_is_done_in_the_end(
    crowd: Crowd, led: Led, scale: Scale, report: Report, status: int
) -> None:
    rounds = scale.rounds(7, short=1)
    as_they_were = led.begin().pods()
    stays, stopped, newcomer = crowd.people[:3]
    slowest, busiest = 0.0, 0.0
    with crowd.at_work(stays) as (kernel,):
        for number in range(rounds):
            with crowd.at_work(stopped):
                busiest = max(busiest, refuse(led, status, max(LEAST_S, scale.seconds(REFUSING_S)), stopped, newcomer))
                ended = time.monotonic()
                eventually(lambda: led.sees_the_end_of(stopped), within=CONVERGED_S, what="the stop", every=LOOK_S)
                slowest = max(slowest, time.monotonic() - ended)
                newcomer.until(*ENDED)
            assert kernel.run("count += 1; print(count)") == str(number + 1)
    assert busiest < MOST_PER_S
    assert led.pods() == as_they_were
    crowd.check()
    report(7, status=status, rounds=rounds, most_requests_per_second_of_one_caller=round(busiest, 2),
           seconds_until_converged=round(slowest, 1))  # fmt: skip


def refuse(led: Led, status: int, seconds: float, stopped: Person, newcomer: Person) -> float:
    """Meanwhile one notebook is stopped, and another one asked for. Requests per second of whoever asked most often for one thing."""
    begun = time.monotonic()
    with led.proxy.refusing(status):
        ask_to_stop(stopped)
        ask(newcomer)
        if status == GONE:  # what goes on from no version hears nothing of that
            newcomer.until("ready")
            ask_to_stop(newcomer)
        else:
            eventually(lambda: is_told_why(newcomer), what="what is said to whoever starts", every=LOOK_S)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))  # the fault itself
        lasted = time.monotonic() - begun
        asked = led.asked_since(begun)
    calls = Counter((each.by, each.method, each.path) for each in asked)
    print(f"{status}, {lasted:.0f} s: {calls.most_common(5)}")
    return max(calls.values()) / lasted


def ask_to_stop(person: Person) -> None:
    found = person.notebook()
    assert found is not None
    person.api("DELETE", f"/notebooks/{found['id']}")


def is_told_why(person: Person) -> bool:
    """Nothing was started, in words. What was admitted is held until the server itself has said that there is nothing."""
    found = person.notebook()
    return found is not None and "The cluster does not answer, so nothing was started" in str(found["reason"])
