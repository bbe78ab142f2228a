"""Fault 2: the service is killed (SIGKILL) between any two steps of a stop, and started again.

Everything of the workload is gone afterwards, and what it held is given back once, whatever kind it was.
"""

from sqlalchemy import select

from moorage_service.store.tables import EventRow, ReservationRow
from tests.faults.checking import check
from tests.faults.crashes import Ask, Tally, ask_through_crash
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation

CLUSTER_POINTS = (
    "stop.recorded", "stop.committed", "launch.stop_asked", "launch.stop_asked:2", "cluster.stopped", "release.recorded",
    "release.committed", "cluster.ended", "cluster.cleared",
)  # fmt: skip
NOTEBOOK_POINTS = (
    "stop.recorded", "stop.committed", "launch.stop_asked", "notebook.stop_asked", "release.recorded", "release.committed",
    "notebook.ended",
)  # fmt: skip
STRIDE = 5  # has no divisor with the number of points in common


def test_everything_is_gone_wherever_a_stop_was_cut_off(
    installation: Installation, scale: Scale, report: Report
) -> None:
    tally, rounds = Tally(), scale.rounds(200, short=5)
    installation.start()
    points = [("clusters", point) for point in CLUSTER_POINTS] + [("notebooks", point) for point in NOTEBOOK_POINTS]
    for number in range(rounds):
        # In strides, so that a few rounds see points of both kinds.
        kind, point = points[number * STRIDE % len(points)]
        workload = start_one(installation, kind)
        ask_through_crash(installation, point, stopping(kind, workload), tally)
        installation.wait(workload, "stopped", within=60)
        assert released_once(installation, workload), f"round {number}, {point}"
    check(installation)
    assert not tally.missed
    report(2, rounds=rounds, points=len(points), kills=tally.kills, workloads_gone=rounds, released_once=rounds)


def start_one(installation: Installation, kind: str) -> str:
    if kind == "notebooks":
        return installation.start_notebook()
    with installation.api() as http:
        cluster = str(http.post("/clusters", json=installation.cluster_request()).json()["id"])
    installation.wait(cluster, "ready")
    return cluster


def stopping(kind: str, workload_id: str) -> Ask:
    return lambda http: http.delete(f"/{kind}/{workload_id}")


def released_once(installation: Installation, workload_id: str) -> bool:
    """Whether it is given back, and its end is told once."""
    with installation.context() as context, context.database.read() as session:
        ends = session.scalars(
            select(EventRow.id).where(EventRow.workload_id == workload_id, EventRow.code.endswith(".stopped"))
        ).all()
        return session.get_one(ReservationRow, workload_id).released_at is not None and len(ends) == 1
