"""Fault 8: fifty creates of one user at the same moment, with room for three, at two services on PostgreSQL or at one on SQLite.

Exactly three are admitted, in every round; the others are refused with the reason; no look ever sees more than three held.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.faults.checking import check
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.faults.sampler import Sampler
from tests.service.databases import each_database
from tests.waiting import eventually

AT_ONCE, ROOM = 50, 3


@each_database
def test_room_for_three_is_given_to_three_of_fifty(
    installation: Installation, scale: Scale, report: Report, database_url: str | None
) -> None:
    services = [installation.start() for _ in range(1 if database_url is None else 2)]
    with installation.api("root") as http:
        limit = {"scope": "everyone", "resource": "clusters", "amount": ROOM}
        assert http.post("/limits", json=limit).status_code == 201
    clients = [installation.api("ada", services[number % len(services)], timeout=120) for number in range(AT_ONCE)]
    rounds, answers = scale.rounds(100, short=3), Counter[int]()
    with (
        installation.context() as context,
        Sampler(context, "clusters") as sampler,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        for number in range(rounds):
            gate = threading.Barrier(AT_ONCE)

            def create(index: int, gate: threading.Barrier = gate) -> tuple[int, str]:
                gate.wait(timeout=60)
                answer = clients[index].post("/clusters", json=installation.cluster_request())
                body = answer.json()
                return answer.status_code, body["id"] if answer.status_code == 201 else body["message"]

            seen = list(pool.map(create, range(AT_ONCE)))
            counted = Counter(status for status, _ in seen)
            assert counted == {201: ROOM, 409: AT_ONCE - ROOM}, f"round {number}: {Counter(seen)}"
            words = {text for status, text in seen if status == 409}
            assert all("may hold at most 3 clusters at once" in text for text in words), words
            answers += counted
            admitted = [text for status, text in seen if status == 201]
            for cluster in admitted:
                clients[0].delete(f"/clusters/{cluster}").raise_for_status()
            eventually(lambda: sampler.held() == 0, within=120, what="the end of the round's clusters")
    for client in clients:
        client.close()
    assert (sampler.most, sampler.failures) == (ROOM, [])
    check(installation)
    report(8, services=len(services), rounds=rounds, creates=rounds * AT_ONCE, admitted=answers[201], refused=answers[409],
           over=0, looks=sampler.looks)  # fmt: skip
