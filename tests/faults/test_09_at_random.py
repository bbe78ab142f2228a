"""Fault 9: creates, stops and changes of limits at random, by three people at once, while the service is killed now and then.

At every look no more is held than a limit allows for what was admitted since, and each charge is the lifetime of its workload. The mix
comes from a seed: MOORAGE_FAULTS_SEED=<number> runs one again.
"""

import os
import random
from collections import Counter
from datetime import datetime
from functools import partial

import httpx
import pytest
from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.store.tables import AuditRow, LimitRow, ReservationRow
from tests.faults.checking import check
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.faults.services import Service
from tests.waiting import eventually

SEEDS = 10 if Scale.from_environment().full else 1
PEOPLE = ("ada", "bob", "root")
DONE = {200, 201, 202, 204}
REFUSED = {409}  # by a limit, or a name that is taken


class Mix:
    """One person after another does something, as the seed says."""

    def __init__(self, installation: Installation, service: Service, seed: int) -> None:
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self._installation = installation
        self._service = service

    def act(self) -> None:
        name = self.random.choice(PEOPLE)
        what = self.random.choices(("create", "stop", "limit", "kill", "notebook"), weights=(8, 6, 2, 1, 3))[0]
        if what == "kill":
            self._service.kill()
            self._service = self._installation.start()
        else:
            with self._installation.api(name, self._service) as http:
                answer = getattr(self, f"_{what}")(name, http)
            if answer is not None:
                assert answer.status_code in DONE | REFUSED, f"{what}: {answer.status_code} {answer.text}"
                what = what if answer.status_code in DONE else f"{what}_refused"
        self.seen[what] += 1

    def _create(self, _name: str, http: httpx.Client) -> httpx.Response:
        workers = self.random.randint(1, 2)
        asked = self._installation.cluster_request(
            engine=self.random.choice(("ray", "dask")), min_workers=1, max_workers=workers
        )
        return http.post("/clusters", json=asked)

    def _stop(self, _name: str, http: httpx.Client) -> httpx.Response | None:
        live = [row for row in http.get("/workloads").json() if row["phase"] != "stopping"]
        if not live:
            return None
        return http.delete(f"/workloads/{self.random.choice(live)['id']}")

    def _limit(self, _name: str, _http: httpx.Client) -> httpx.Response:
        resource, amount = self.random.choice((("clusters", (1, 4)), ("cpu", (1, 2)), ("notebooks", (0, 2))))
        asked = {"scope": "everyone", "resource": resource, "amount": self.random.randint(*amount), "why": "at random"}
        with self._installation.api("root", self._service) as http:
            return http.post("/limits", json=asked)

    def _notebook(self, name: str, http: httpx.Client) -> None:
        """Admitted, and never started by the hub: it gives back when its lease runs out."""
        asked = {"user": name, "admin": name == "root", "groups": [], "project": "starter",
                 "size": {"cpu": 0.1, "memory": 1 << 30}}  # fmt: skip
        with self._installation.spawner(self._service) as hub:
            answer = hub.post("/notebooks", json=asked)
        assert answer.status_code in DONE | REFUSED, answer.text


@pytest.mark.parametrize("number", range(SEEDS))
def test_no_mix_of_creates_stops_and_limits_holds_too_much(
    installation: Installation, scale: Scale, report: Report, number: int
) -> None:
    seed = int(os.environ.get("MOORAGE_FAULTS_SEED") or 4000 + number)
    service = installation.start(MOORAGE_SERVICE_ADMISSION_LEASE_S="2")
    mix = Mix(installation, service, seed)
    acts, looks = scale.rounds(600, short=25), 0
    with installation.context() as context:
        for _ in range(acts):
            mix.act()
            looks += 1
            assert over(context) == [], f"seed {seed}, after {looks} acts: {mix.seen}"
    check(installation)
    stop_all(installation)
    check(installation)
    report(9, seed=seed, acts=acts, **dict(sorted(mix.seen.items())), over=0, looks=looks)


def over(context: Context) -> list[str]:
    """Limits under which somebody holds more than allowed, by claims that came after the limit was last changed."""
    found = []
    with context.database.read() as session:
        live = session.scalars(select(ReservationRow).where(ReservationRow.released_at.is_(None))).all()
        for limit in session.scalars(select(LimitRow)):
            of_it = [row for row in live if limit.resource in row.amounts]
            for user in {row.user_id for row in of_it}:
                mine = [row for row in of_it if row.user_id == user]
                held = sum(row.amounts[limit.resource] for row in mine)
                if held > limit.amount and max(row.created_at for row in mine) > changed_at(context, limit):
                    found.append(f"{user} holds {held} {limit.resource} of {limit.amount}")
    return found


def stop_all(installation: Installation) -> None:
    for name in PEOPLE:
        with installation.api(name) as http:
            for row in http.get("/workloads").json():
                http.delete(f"/workloads/{row['id']}").raise_for_status()
        eventually(partial(nothing_lives, installation, name), within=120, what=f"the end of all of {name}")


def nothing_lives(installation: Installation, name: str) -> bool:
    with installation.api(name) as http:
        return bool(http.get("/workloads").json() == [])


def changed_at(context: Context, limit: LimitRow) -> datetime:
    """When the limit got its present amount."""
    with context.database.read() as session:
        entries = session.scalars(select(AuditRow).where(AuditRow.action == "limit.set").order_by(AuditRow.id.desc()))
        return next(entry.at for entry in entries if (entry.after or {}).get("limit") == limit.id)
