"""`make up` is killed, or the machine restarts: the next start finds, ends or gives back everything, and says what became of it."""

import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from moorage_service.store.tables import ReservationRow
from moorage_spawners.launch.marks import mark_of
from moorage_spawners.shim import tree
from tests.faults.checking import check_at
from tests.faults.figures import Report, Scale
from tests.faults.person import reaches
from tests.faults.up import Up
from tests.faults.whole import PEOPLE, Whole, listening
from tests.waiting import eventually


@pytest.mark.timeout(3600)
def test_a_killed_supervisor_leaves_nothing_behind(own_whole: Whole, scale: Scale, report: Report) -> None:
    whole, up, chance = own_whole, Up(own_whole), random.Random(25)
    rounds = 50 if scale.full else 1
    up.start()
    person = whole.person(PEOPLE[0])
    person.ask()
    person.until("ready")
    (before,) = whole.running(person.name)
    for number in range(rounds):
        if number % 2 == 0:  # while it still starts, at any moment of it
            up.kill()
            up.start(wait=False)
            time.sleep(chance.uniform(0, 4))
        up.kill()
        left = tree.marked(mark_of(whole.state), None)
        up.start()
        now = tree.marked(mark_of(whole.state), None)
        assert not left & now, "what an earlier start had left still runs"
        assert len(now) == 3, "service, proxy and hub, once each"
        assert listening(now) == set(whole.ports), "no port is held by anybody else"
        assert [seen.pid for seen in whole.running(person.name)] == [before.pid]
        assert eventually(person.counter, within=30) == number + 1
    up.interrupt()
    assert tree.marked(mark_of(whole.state), None) == set()
    assert [seen.pid for seen in whole.running()] == [before.pid]
    check_at(whole.state)
    person.close()
    report(25, kills=rounds, strays=0, notebooks_lost=0)


def test_what_hangs_is_started_again(own_whole: Whole, scale: Scale, report: Report) -> None:
    """It keeps its port and looks alive, so that only asking shows it."""
    whole, up, slowest = own_whole, Up(own_whole, MOORAGE_HUB_UNRESPONSIVE_S="5"), 0.0
    census = whole.state / "database" / "processes.json"
    up.start()
    person = whole.person(PEOPLE[0])
    person.stop()
    person.ask()
    person.until("ready")
    counted = eventually(person.counter)
    names = ("proxy", "service", "hub") if scale.full else ("proxy",)
    for name in names:
        hung, _, _ = json.loads(census.read_text())[name]
        begun = time.monotonic()
        os.kill(hung, signal.SIGSTOP)
        eventually(lambda: tree.started(hung) is None, within=60, what="its end")  # noqa: B023 - asked within the round
        assert f"The {name} has not answered for 5 s: it is started again" in up.said
        eventually(lambda: reaches(person.counter), within=60, what="the notebook")
        eventually(lambda: reaches(lambda: person.page().status_code == 200), within=60, what="the portal")
        slowest = max(slowest, time.monotonic() - begun)
    assert (person.counter() or 0) > counted
    person.stop()
    person.close()
    check_at(whole.state)
    up.interrupt()
    report(25, hung=len(names), notebooks_lost=0, slowest_s_until_all_answered=round(slowest, 1))


def test_a_restart_of_the_machine_is_told_and_gives_everything_back(own_whole: Whole, report: Report) -> None:
    """Every process is gone, pids are given anew, and the database is as it was."""
    whole, up = own_whole, Up(own_whole)
    up.start()
    people = [whole.person(name) for name in PEOPLE[:3]]
    for person in people:
        person.stop()
        person.ask()
    for person in people:
        person.until("ready")
    restart_machine(whole, up)
    up.start()
    for person in people:
        found = person.until("stopped")
        assert found["reason_code"] == "notebook.machine_restarted"
        assert found["reason"].startswith("The machine was restarted, which ended it.")
        assert "The machine was restarted" in person.page(f"/workloads/{found['id']}").text
        eventually(partial(forgotten, whole, person.name), what="the hub's view")
    with whole.context() as context, context.database.read() as session:
        assert session.query(ReservationRow).filter(ReservationRow.released_at.is_(None)).count() == 0
    people[0].ask()
    people[0].until("ready")
    assert eventually(people[0].counter) == 1
    people[0].stop()
    for person in people:
        person.close()
    check_at(whole.state)
    up.interrupt()
    report(25, machine_restarts=1, told=len(people), reservations_left=0)


def forgotten(whole: Whole, name: str) -> bool:
    return whole.hub_view(name) == set()


def restart_machine(whole: Whole, up: Up) -> None:
    """All processes die at once, without a word; then another boot, in which every recorded pid is somebody else's."""
    assert up.process is not None
    shims = {json.loads(path.read_text())["shim_pid"] for path in records(whole)}
    doomed = tree.marked(mark_of(whole.state), None) | shims | {up.process.pid}
    tree.signal_all(doomed, signal.SIGSTOP)  # nobody sees anybody else's end
    tree.signal_all({json.loads(path.read_text())["pid"] for path in records(whole)}, signal.SIGKILL)
    tree.signal_all(doomed, signal.SIGKILL)
    up.process.wait()
    eventually(lambda: all(tree.started(pid) is None for pid in doomed))
    stranger = {
        "pid": os.getpid(),
        "pid_start": tree.started(os.getpid()),
        "shim_pid": os.getpid(),
        "boot": "earlier/1",
    }
    for path in records(whole):
        record = json.loads(path.read_text())
        if record["state"] != "exited":
            path.write_text(json.dumps({**record, **stranger}))
    census = whole.state / "database" / "processes.json"
    strangers = {
        name: [os.getpid(), tree.started(os.getpid()), "earlier/1"]
        for name in ("supervisor", "service", "proxy", "hub")
    }
    census.write_text(json.dumps(strangers))


def records(whole: Whole) -> list[Path]:
    return list((whole.state / "workloads").glob("*/server/*/record.json"))
