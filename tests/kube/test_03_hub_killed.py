"""The hub is lost while people start notebooks: everybody ends with one pod or a sentence, and kernels know nothing of it."""

import random
import time

import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import Person
from tests.kube.people import A_LOOK_S, NO_ROOM, Crowd, ask, settled_or_waits
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT_S)


def test_a_hub_lost_while_starts_are_pending(crowd: Crowd, scale: Scale, report: Report) -> None:
    people = crowd.people if scale.full else crowd.people[:4]
    rounds = scale.rounds(20, short=1)
    chance = random.Random(3)
    ready = failed = waited = 0
    with crowd.at_work(crowd.keeper) as (kernel,):
        for number in range(rounds):
            crowd.together(ask, people)
            time.sleep(chance.uniform(0, 4))  # any moment will do
            lost = crowd.release.lose("hub")
            assert kernel.run("count += 1; print(count)") == str(number + 1)  # by the proxy, without a hub
            crowd.release.until_another("hub", lost)
            for person, said in zip(people, crowd.together(settled_or_waits, people), strict=True):
                agree(crowd, person, said)
                ready += said == "ready"
                waited += said.startswith(NO_ROOM)
                failed += said != "ready" and not said.startswith(NO_ROOM)
            crowd.stop(people)
            assert [pod["metadata"]["uid"] for pod in crowd.pods()] == [crowd.pod(crowd.keeper)["metadata"]["uid"]]
        assert kernel.run("print(count)") == str(rounds)
    crowd.check()
    report(3, rounds=rounds, starts=rounds * len(people), ready=ready, waited_for_room=waited, clear_failures=failed, orphans=0,
           doubles=0)  # fmt: skip


def agree(crowd: Crowd, person: Person, said: str) -> None:
    """Cluster and hub show what the person was told."""
    pods = 1 if said == "ready" or said.startswith(NO_ROOM) else 0
    servers = {"starter"} if said == "ready" else set()
    told = f"of {person.name}, who was told {said!r}"
    eventually(lambda: len(crowd.pods(person)) == pods, what=f"{pods} pods {told}", every=A_LOOK_S)
    eventually(lambda: crowd.hub_view(person) == servers, what=f"the hub's view {told}", every=A_LOOK_S)
