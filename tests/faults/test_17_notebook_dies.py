"""A notebook is killed while it is attached to a cluster.

With "stop" the cluster goes by itself within 2 minutes; with "keep" it goes on, charged, and the next notebook attaches to it again.
The service is killed in between: the delay goes on, and no cluster ends for that.
"""

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest

from moorage_service.identity.tokens import issue_token
from moorage_service.store.tables import ReservationRow, WorkloadRow
from tests.faults.checking import check
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.waiting import eventually

ORPHAN_S = 120.0


def as_notebook(installation: Installation, notebook: str) -> httpx.Client:
    """Sends with a token of the notebook's own, as its kernel does; close it."""
    with installation.context() as context, context.database.begin() as session:
        token = issue_token(session, session.get_one(WorkloadRow, notebook))
    made = installation.api()
    made.headers["Authorization"] = f"Bearer {token}"
    return made


def make(http: httpx.Client, installation: Installation, policy: str) -> str:
    answer = http.post("/clusters", json={**installation.cluster_request(), "on_notebook_end": policy})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def attach(http: httpx.Client, cluster: str) -> dict[str, Any]:
    answer = http.get(f"/clusters/{cluster}/attach")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def kill_notebook(installation: Installation, notebook: str) -> None:
    (seen,) = installation.processes.observe(notebook)
    assert seen.pid is not None
    os.kill(seen.pid, signal.SIGKILL)


def released(installation: Installation, cluster: str) -> bool:
    with installation.context() as context, context.database.read() as session:
        return session.get_one(ReservationRow, cluster).released_at is not None


def codes(installation: Installation, cluster: str, user: str = "ada") -> list[str]:
    with installation.api(user) as http:
        return [event["code"] for event in http.get(f"/workloads/{cluster}/events").json()]


@dataclass
class Pair:
    """Two clusters of one notebook: one that ends with it, and one that is kept, with how it was attached to."""

    user: str
    notebook: str
    dies: str
    stays: str
    attached: dict[str, Any]


def open_pair(installation: Installation, user: str) -> Pair:
    notebook = installation.start_notebook(user)
    with as_notebook(installation, notebook) as http:
        dies, stays = make(http, installation, "stop"), make(http, installation, "keep")
        installation.wait(dies, "ready", user=user)
        installation.wait(stays, "ready", user=user)
        attach(http, dies)
        return Pair(user, notebook, dies, stays, attach(http, stays))


def announced(installation: Installation, pair: Pair) -> bool:
    return "cluster.will_stop" in codes(installation, pair.dies, pair.user)


@pytest.mark.timeout(7200)
def test_a_notebook_killed_while_attached(scale: Scale, report: Report) -> None:
    """In the full form three people at a time, since the delay is two minutes."""
    rounds, people = (7, ("ada", "bob", "root")) if scale.full else (1, ("ada",))
    took = []
    with Installation.make(cluster_orphan_s=scale.seconds(ORPHAN_S)) as installation:
        installation.start()
        for _ in range(rounds):
            pairs = [open_pair(installation, user) for user in people]
            for pair in pairs:
                kill_notebook(installation, pair.notebook)
            begun = time.monotonic()
            for pair in pairs:
                eventually(partial(announced, installation, pair), what="the announcement")
            installation.services[-1].kill()
            installation.start()
            for pair in pairs:
                it_is_gone(installation, pair)
                took.append(time.monotonic() - begun)
                still_there(installation, pair)
        if scale.full:  # with the real delay there is time for it, however slow the machine
            comes_back(installation)
        check(installation)
    killed = rounds * len(people)
    report(17, notebooks_killed=killed, clusters_ended=killed, clusters_kept=killed, restarts_of_the_service=rounds,
           delay_s=scale.seconds(ORPHAN_S), slowest_s_to_the_end=round(max(took), 1))  # fmt: skip


def it_is_gone(installation: Installation, pair: Pair) -> None:
    gone = installation.wait(pair.dies, "stopped", user=pair.user, within=3 * ORPHAN_S)
    assert gone["reason_code"] == "cluster.notebook_gone"
    assert gone["reason"].startswith("Stopped with its notebook, which ended")
    assert released(installation, pair.dies)
    assert codes(installation, pair.dies, pair.user).count("cluster.will_stop") == 1


def still_there(installation: Installation, pair: Pair) -> None:
    """As it was, in the hands of the next notebook; charged until somebody stops it."""
    assert installation.wait(pair.stays, "ready", user=pair.user)["ended_at"] is None
    assert not released(installation, pair.stays)
    notebook = installation.start_notebook(pair.user)
    with as_notebook(installation, notebook) as http:
        assert attach(http, pair.stays) == pair.attached
        assert http.delete(f"/clusters/{pair.stays}").status_code == 202
    installation.wait(pair.stays, "stopped", user=pair.user)
    assert released(installation, pair.stays)
    kill_notebook(installation, notebook)
    eventually(lambda: installation.workload(notebook, pair.user)["ended_at"], what="the notebook's end")


def comes_back(installation: Installation) -> None:
    """A notebook that is started again in time keeps its cluster: the announcement is taken back."""
    pair = open_pair(installation, "ada")
    kill_notebook(installation, pair.notebook)
    eventually(partial(announced, installation, pair), what="the announcement")
    installation.start_notebook()
    eventually(lambda: "cluster.stays" in codes(installation, pair.dies), what="its being taken back")
    with installation.api() as http:
        assert http.get(f"/clusters/{pair.dies}").json()["stops_at"] is None
