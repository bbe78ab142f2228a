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

LONGEST_S = 30.0  # the lease; the short form's is shorter, and it makes one round, which waits for the lease to end
FENCED = "is left to another process"


# A process that is paused in the middle of a transaction would hold SQLite's one lock; PostgreSQL ends what idles in one.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_service_that_was_paused_acts_on_nothing_stale(
    installation: Installation, scale: Scale, report: Report
) -> None:
    rounds, lease_s = scale.rounds(20, short=1), max(3.0, scale.seconds(LONGEST_S))
    terms = [take_over(installation, lease_s) for _ in range(rounds)]
    installation.start()
    assert terms == sorted(set(terms))
    check(installation)
    report(
        13, rounds=rounds, lease_s=lease_s, takeovers=len(terms), started_by_the_stale=0, ended_by_the_stale=0, double=0
    )


def take_over(installation: Installation, lease_s: float) -> int:
    """Pauses the service that acts, and lets it go on when another one does; the term of that one."""
    # It is paused between what it decided and what it would start: the worst moment there is.
    first = installation.start(crash_at="cluster.planned:stop", MOORAGE_SERVICE_LEASE_S=str(lease_s))
    second = installation.start(MOORAGE_SERVICE_LEASE_S=str(lease_s))
    with installation.api(service=second) as http:
        doomed = str(http.post("/clusters", json=installation.cluster_request()).json()["id"])
        eventually(lambda: first.paused, what="the pause")
        http.delete(f"/clusters/{doomed}").raise_for_status()
        kept = str(http.post("/clusters", json=installation.cluster_request()).json()["id"])
        installation.wait(kept, "ready", within=150, service=second)
        installation.wait(doomed, "stopped", within=150, service=second)
        before, said = processes(installation), installation.log.count(FENCED)
        first.resume()
        eventually(first.answers, within=90, what="the first service going on")
        eventually(lambda: installation.log.count(FENCED) > said, what="word of the fence")
        assert processes(installation) == before
        with installation.context() as context, context.database.read() as session:
            term = session.get_one(LeaseRow, NAME).fence
        http.delete(f"/clusters/{kept}").raise_for_status()
        installation.wait(kept, "stopped", within=150, service=second)
    for service in (first, second):
        service.kill()
    return term


def processes(installation: Installation) -> list[tuple[str, str, int | None]]:
    return sorted((seen.workload_id, seen.role, seen.pid) for seen in installation.running())
