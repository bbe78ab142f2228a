"""Fault 13: of two service processes the one that acts is paused (SIGSTOP) beyond its lease, then goes on.

The other one takes over within the lease; the paused one, when it goes on, acts on nothing stale: nothing is started twice, nothing that
was ended comes back, and what one of them admitted the other one runs.
"""

import pytest

from moorage_service.reconciler.leadership import NAME
from moorage_service.store.tables import LeaseRow
from tests.faults.checking import check
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.waiting import eventually

LEASE_S = 4.0


# A process that is paused in the middle of a transaction would hold SQLite's one lock; PostgreSQL ends what idles in one.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_service_that_was_paused_acts_on_nothing_stale(
    installation: Installation, scale: Scale, report: Report
) -> None:
    rounds, terms = scale.rounds(20), []
    for number in range(rounds):
        # It is paused between what it decided and what it would start: the worst moment there is.
        first = installation.start(crash_at="cluster.planned:stop", MOORAGE_SERVICE_LEASE_S=str(LEASE_S))
        second = installation.start(MOORAGE_SERVICE_LEASE_S=str(LEASE_S))
        with installation.api(service=second) as http:
            doomed = str(http.post("/clusters", json=installation.cluster_request()).json()["id"])
            eventually(lambda first=first: first.paused, what="the pause")
            http.delete(f"/clusters/{doomed}").raise_for_status()
            kept = str(http.post("/clusters", json=installation.cluster_request()).json()["id"])
            installation.wait(kept, "ready", within=60, service=second)
            installation.wait(doomed, "stopped", within=60, service=second)
            before = processes(installation)
            first.resume()
            eventually(lambda first=first: first.answers(), within=90, what="the first service going on")
            told = eventually(lambda: "another process" in installation.log or None, what="word of the fence")
            assert told
            terms.append(term(installation))
            assert processes(installation) == before, f"round {number}"
            http.delete(f"/clusters/{kept}").raise_for_status()
            installation.wait(kept, "stopped", within=60, service=second)
        for service in (first, second):
            service.kill()
    installation.start()
    assert terms == sorted(set(terms))
    check(installation)
    report(13, rounds=rounds, takeovers=len(terms), started_by_the_stale=0, ended_by_the_stale=0, double=0)


def processes(installation: Installation) -> list[tuple[str, str, int | None]]:
    return sorted((seen.workload_id, seen.role, seen.pid) for seen in installation.running())


def term(installation: Installation) -> int:
    with installation.context() as context, context.database.read() as session:
        return session.get_one(LeaseRow, NAME).fence
