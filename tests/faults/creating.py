"""People who go on creating while the store fails: each asks again with the same key until they are answered."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from sqlalchemy import select

from moorage_service.store.tables import IdempotencyRow, JobRow, JobVersionRow, LimitRow, ProjectRow, RunRow, UserRow
from tests.faults.installation import ENVIRONMENT, Installation
from tests.waiting import eventually

SIZE = {"cpu": 1.0, "memory": 1 << 30, "gpu": 0, "gpu_type": None}
WORDS = frozenset({"store_unavailable", "outcome_unknown", "disk_full"})
PATIENCE_S = 90.0


@dataclass
class Creators:
    """`made`: key -> the id that was answered. `refused`: codes of 503. `wrong`: every answer that should not have been."""

    installation: Installation
    job: str
    made: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    _waiting: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def create(self, http: httpx.Client, key: str) -> bool:
        """Asks once; whether it was answered. The run is cancelled then, so that no queue fills."""
        try:
            answer = http.post(f"/jobs/{self.job}/runs", json={}, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return False
        if answer.status_code == 201:
            self.made[key] = answer.json()["id"]
            self._waiting.add(self.made[key])
            self._cancel(http)
            return True
        code = answer.json().get("code") if answer.headers.get("content-type") == "application/json" else None
        if answer.status_code != 503 or code not in WORDS:
            self.wrong.append(f"{answer.status_code}: {answer.text[:300]}")
        self.refused[str(code)] = self.refused.get(str(code), 0) + 1
        return False

    def _cancel(self, http: httpx.Client) -> None:
        """Those, too, whose cancel the store did not take before."""
        for run in list(self._waiting):
            with suppress(httpx.TransportError):
                if http.delete(f"/runs/{run}").status_code != 503:
                    self._waiting.discard(run)

    def work(self, name: str) -> None:
        number = 0
        with self.installation.api() as http:
            while not self._stop.is_set():
                key = f"{name}-{number}"
                while not self.create(http, key) and not self._stop.wait(0.05):
                    pass
                number += 1

    def was_refused(self, code: str, times: int) -> bool:
        return self.refused.get(code, 0) >= times

    def answered(self) -> None:
        """Returns when the service answers again, with nobody's help."""
        before = len(self.made)
        eventually(lambda: len(self.made) > before, within=PATIENCE_S, what="the service answering again")

    def verify(self) -> None:
        """Each 201 has its durable record, and no key has two."""
        assert self.wrong == []
        with self.installation.context() as context, context.database.read() as session:
            runs = set(session.scalars(select(RunRow.workload_id).where(RunRow.job_id == self.job)))
            keys = {
                row.key: row.result
                for row in session.scalars(select(IdempotencyRow).where(IdempotencyRow.action == f"run:{self.job}"))
            }
        assert set(self.made.values()) <= runs, "a run was answered and is not there"
        assert all(keys[key] == made for key, made in self.made.items())
        assert sorted(keys.values()) == sorted(runs), "a run was made twice for one key"


@contextmanager
def creating(installation: Installation, people: int = 3) -> Iterator[Creators]:
    """Runs of a job that may not start: rows, and nothing else."""
    made = Creators(installation, make_job(installation))
    threads = [threading.Thread(target=made.work, args=(f"p{number}",)) for number in range(people)]
    for thread in threads:
        thread.start()
    try:
        made.answered()
        yield made
    finally:
        made._stop.set()
        for thread in threads:
            thread.join()


def make_job(installation: Installation) -> str:
    """A job of ada's; and a limit by which no run of it starts."""
    now = datetime.now(UTC)
    with installation.context() as context, context.database.begin() as session:
        ada = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        project = session.scalars(select(ProjectRow)).one()
        session.add(LimitRow(scope="everyone", resource="runs", amount=0, created_at=now))
        job = JobRow(project_id=project.id, name="nightly", run_as=ada.id, created_at=now)
        session.add(job)
        session.flush()
        session.add(
            JobVersionRow(
                job_id=job.id, number=1, state="active", notebook="a.ipynb", files=["a.ipynb"], source="sha256-abc",
                environment=ENVIRONMENT, parameters=[], size=SIZE, created_by=ada.id, created_at=now,
            )
        )  # fmt: skip
        return job.id
