"""Streams of changes stay open and say nothing any more: what happens meanwhile is seen all the same."""

import time

import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.kube.led import Led
from tests.kube.people import Crowd
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT_S)
SILENT_S = 600.0
LOOK_S = 0.2


def test_what_happens_while_the_streams_are_silent_is_seen_within_the_resync_period(
    crowd: Crowd, led: Led, scale: Scale, report: Report
) -> None:
    rounds = scale.rounds(5, short=1)
    as_they_were = led.begin().pods()
    lost, stopped, stays = crowd.people[:3]
    seen: list[float] = []
    with crowd.at_work(stays) as (kernel,):
        for _ in range(rounds):
            with crowd.at_work(lost, stopped), led.proxy.silent():
                until = time.monotonic() + scale.seconds(SILENT_S)
                while True:
                    seen.append(seconds_until_a_lost_pod_is_seen(led))
                    begun = time.monotonic()
                    crowd.stop([stopped])
                    seen.append(time.monotonic() - begun)
                    if time.monotonic() > until:
                        break
                    assert crowd.start([lost, stopped]) == ["ready", "ready"]
        assert kernel.run("count += 1; print(count)") == "1"
    assert max(seen) < led.watch["resync"]
    assert led.pods() == as_they_were
    crowd.check()
    report(
        6,
        rounds=rounds,
        changes=len(seen),
        resync_seconds=led.watch["resync"],
        slowest_seen_after_seconds=round(max(seen), 1),
    )


def seconds_until_a_lost_pod_is_seen(led: Led) -> float:
    """By hub and service."""
    lost = led.crowd.people[0]
    led.delete_pod(lost)
    begun = time.monotonic()
    eventually(lambda: led.sees_the_end_of(lost), within=led.watch["resync"], what="the end of the pod", every=LOOK_S)
    return time.monotonic() - begun
