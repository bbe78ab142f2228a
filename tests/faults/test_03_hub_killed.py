"""The hub is killed while people start notebooks: everybody ends with one server or a sentence, and kernels know nothing of it."""

import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.checking import check_at
from tests.faults.figures import Report, Scale
from tests.faults.person import ENDED, Person
from tests.faults.whole import PEOPLE, Whole
from tests.kernels import Kernel
from tests.waiting import eventually

POINTS = ("spawner.admitted", "spawner.remembered", "spawner.started", "spawner.answers")
SETTLED_S = 90.0


def outcome(person: Person, asked_at: float) -> str | None:
    """ "ready", or the sentence that the person reads; None while neither is there."""
    found = person.notebook()
    if found is not None and found["phase"] == "ready":
        return "ready" if person.counter() else None
    if found is not None and found["phase"] in ENDED:
        return str(found["reason"]) if found["reason"] else None
    if found is None and time.monotonic() - asked_at > 1:  # the hub died before it asked for room
        page = person.page("/start/starter").text
        told = re.search(r"The hub[^<]*\.", page)
        return told.group(0) if told else None
    return None


def settled(person: Person, asked_at: float) -> str:
    return str(
        eventually(lambda: outcome(person, asked_at), within=SETTLED_S, what=f"the end of {person.name}'s start")
    )


@pytest.mark.timeout(3600)
def test_a_hub_killed_while_spawns_are_pending(whole: Whole, keeper: Kernel, scale: Scale, report: Report) -> None:
    rounds = 20 if scale.full else 2
    people = [whole.person(name) for name in (PEOPLE if scale.full else PEOPLE[:6])]
    chance = random.Random(3)
    ready = failed = 0
    before = int(keeper.run("print(count)"))
    for number in range(rounds):
        point = (*POINTS, None)[(number + 2) % 5]
        if point is not None:
            whole.restart_hub(f"{point}:{chance.randint(1, len(people))}")
        asked_at = time.monotonic()
        with ThreadPoolExecutor(len(people)) as threads:
            list(threads.map(Person.ask, people))
        if point is None:
            time.sleep(chance.uniform(0, 3))  # any moment will do
            whole.kill(whole.hub)
        whole.until_dead(whole.hub)
        assert keeper.run("count += 1; print(count)") == str(before + number + 1)  # by the proxy, without a hub
        whole.restart_hub(None)
        for person in people:
            said = settled(person, asked_at)
            mine = whole.running(person.name)
            assert len(mine) == (1 if said == "ready" else 0), (point, said, mine)
            assert whole.hub_view(person.name) == ({"starter"} if said == "ready" else set())
            ready, failed = ready + (said == "ready"), failed + (said != "ready")
        with ThreadPoolExecutor(len(people)) as threads:
            list(threads.map(Person.stop, people))
        assert [seen for seen in whole.running() if seen.labels["owner"] != "keeper"] == []
    check_at(whole.state)
    for person in people:
        person.close()
    report(3, rounds=rounds, spawns=rounds * len(people), ready=ready, clear_failures=failed, orphans=0, doubles=0)


def test_a_notebook_that_the_hub_has_forgotten_is_taken_over(whole: Whole, keeper: Kernel, report: Report) -> None:
    """As after a restore of the hub's database: the next start finds the server with all that it holds."""
    person = whole.person(PEOPLE[0])
    person.ask()
    person.until("ready")
    assert [person.counter(), person.counter()] == [1, 2]
    (before,) = whole.running(person.name)
    whole.kill(whole.hub)
    whole.forget_at_hub(person.name)
    whole.restart_hub(None)
    assert whole.hub_view(person.name) == set()
    person.ask(cpu="0.2")
    assert eventually(person.counter) == 3
    assert [seen.pid for seen in whole.running(person.name)] == [before.pid]
    assert whole.hub_view(person.name) == {"starter"}
    codes = [event["code"] for event in (person.notebook() or {})["events"]]
    assert codes.count("notebook.admitted") == 1
    assert "notebook.taken_over" in codes
    assert keeper.alive()
    person.stop()
    assert whole.running(person.name) == []
    check_at(whole.state)
    person.close()
    report(3, taken_over=1)
