"""Fault 1: the service is killed (SIGKILL) between any two steps of a create, started again, and asked again with the same key.

Nothing is orphaned, lost or made twice; each workload is ready, or says why not, within 60 s.
"""

from tests.faults.checking import check
from tests.faults.crashes import Ask, Tally, ask_through_crash, spread
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation

# In the order in which a create reaches them; the last ones in the reconciler, after the answer.
POINTS = (
    "create.recorded", "create.committed", "cluster.planned", "bind.recorded", "bind.committed", "launch.written",
    "launch.spawned", "launch.spawned:2", "launch.written:3", "cluster.started",
)  # fmt: skip


def test_a_cluster_is_made_once_wherever_its_create_was_cut_off(
    installation: Installation, scale: Scale, report: Report
) -> None:
    tally = Tally()
    rounds = scale.rounds(200)
    slowest = 0.0
    for number, point in enumerate(spread(POINTS, rounds)):
        ask = asking(installation, f"round-{number}")
        made = ask_through_crash(installation, point, ask, tally)
        ready = installation.wait(made["id"], "ready", "failed", within=60)
        assert ready["phase"] == "ready", f"round {number}, {point}: {ready['reason']}"
        slowest = max(slowest, installation.seconds_to_ready(made["id"]))
        with installation.api() as http:
            assert [row["id"] for row in http.get("/clusters").json()] == [made["id"]], f"round {number}: {point}"
            http.delete(f"/clusters/{made['id']}")
        installation.wait(made["id"], "stopped")
    check(installation)
    assert not tally.missed
    report(1, rounds=rounds, points=len(POINTS), kills=tally.kills, asked_again=tally.unanswered, orphans=0, lost=0, double=0,
           slowest_s_to_ready=round(slowest, 1))  # fmt: skip


def asking(installation: Installation, key: str) -> Ask:
    request = installation.cluster_request()
    return lambda http: http.post("/clusters", json=request, headers={"Idempotency-Key": key})
