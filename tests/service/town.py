"""A little of everything that runs, on real shims: for tests of what becomes of it when the store is lost or put back."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from moorage.wire import Phase, WorkloadKind
from moorage_service.app import create_app
from moorage_service.clusters.reconcile import step as step_cluster
from moorage_service.context import Context, make_context
from moorage_service.identity.tokens import issue_token
from moorage_service.jobs.execution import step as step_run
from moorage_service.ledger import admission
from moorage_service.notebooks.reconcile import step as step_notebook
from moorage_service.recovery import cards
from moorage_service.settings import PREFIX, Settings
from moorage_service.store.tables import (
    AuditRow,
    ClusterRow,
    JobRow,
    JobVersionRow,
    ProjectRow,
    RunRow,
    Table,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Identity, ProcessSpec
from tests.service.conftest import Headers
from tests.service.engines_bench import furnish_with, open_settings
from tests.service.world import SIZE
from tests.waiting import eventually

API = "/api/v1"
PACKAGES = {"ray": "2.60.0", "aiohttp-cors": "0.8", "distributed": "2026.8.0", "bokeh": "3.9"}
PROGRAM = "#!/bin/sh\nexec sleep 3600\n"


@pytest.fixture(name="settings")
def open_state(database_url: str | None) -> Iterator[Settings]:
    with open_settings(port_first=26800, database_url=database_url) as made:
        yield made


class Town:
    """ada's notebook, her cluster of two workers and a run of hers, all running. `open` gives a service on the store as it is."""

    def __init__(self, context: Context, client: TestClient, spawner: Headers) -> None:
        self.context = context
        admitted = client.post(
            f"{API}/notebooks", headers=spawner,
            json={"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": 1 << 30}},
        )  # fmt: skip
        assert admitted.status_code == 201, admitted.text
        self.notebook = str(admitted.json()["workload_id"])
        self.token = {"Authorization": f"Bearer {admitted.json()['token']}"}
        self._start(self.notebook, "server", uid=admitted.json()["uid"])
        step_notebook(context, self.notebook)
        body = {"spec": {"engine": "ray", "min_workers": 2, "max_workers": 3, "worker": {"cpu": 1, "memory": 1 << 30}}}
        made = client.post(f"{API}/clusters", json=body, headers={**self.token, "Idempotency-Key": "once"})
        assert made.status_code == 201, made.text
        self.cluster = str(made.json()["id"])
        step_cluster(context, self.cluster)
        with context.database.read() as session:
            row = session.get_one(ClusterRow, self.cluster)
            assert row.sealed is not None
            sealed = context.vault.open_sealed(row.sealed)
        self.agent = {"Authorization": "Bearer " + sealed.partition('"agent": "')[2].partition('"')[0]}
        self.run, self.run_token = self._run()
        self.pids = self._pids()

    def _run(self) -> tuple[str, Headers]:
        with self.context.database.begin() as session:
            now = self.context.clock()
            owner = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
            project = session.scalars(select(ProjectRow)).one()
            job = JobRow(project_id=project.id, name="nightly", run_as=owner.id, created_at=now)
            session.add(job)
            session.flush()
            version = JobVersionRow(
                job_id=job.id, number=1, state="active", notebook="a.ipynb", files=["a.ipynb"], source="sha256-abc",
                environment="engines", parameters=[], size=SIZE, created_by=owner.id, created_at=now,
            )  # fmt: skip
            session.add(version)
            session.flush()
            workload = lifecycle.new_workload(
                session, kind=WorkloadKind.RUN, name="nightly", owner_id=owner.id, project_id=project.id, now=now,
                phase=Phase.STARTING, environment="engines",
            )  # fmt: skip
            session.flush()
            session.add(RunRow(workload_id=workload.id, job_id=job.id, version_id=version.id, trigger="manual"))
            admission.admit(session, self.context.capacity, workload, {"cpu": 1000}, now=now, lease_s=60)
            token, uid = issue_token(session, workload), owner.uid
        cards.keep(self.context, workload.id)
        self._start(workload.id, "runner", uid=uid)
        return workload.id, {"Authorization": f"Bearer {token}"}

    def _start(self, workload: str, role: str, *, uid: int | None) -> None:
        self.context.machine.start(
            ProcessSpec(
                workload_id=workload, generation=1, role=role, argv=(sys.executable, "-c", "import time; time.sleep(3600)"),
                env={"PATH": os.defpath}, cwd="/", identity=Identity(uid, uid, "/"), size=None, labels={"owner": "ada"},
            )
        )  # fmt: skip

    def _pids(self) -> dict[tuple[str, str], int | None]:
        return {
            (seen.workload_id, seen.role): seen.pid for seen in self.context.processes.observe_all() if not seen.gone
        }

    @property
    def everything(self) -> list[str]:
        return [self.notebook, self.cluster, self.run]

    def lose_the_store(self) -> None:
        self.context.database.close()
        if self.context.settings.database_url is None:
            for path in (self.context.settings.state / "database").glob("service.sqlite*"):
                path.unlink()
        else:
            with self.context.database.engine.begin() as connection:
                Table.metadata.drop_all(connection)
                connection.execute(text("DROP TABLE alembic_version"))
        self.reopen()

    def reopen(self) -> None:
        """As a service does that starts."""
        made = make_context(self.context.settings)
        made.hub.close()
        self.context = replace(made, hub=self.context.hub, clock=self.context.clock)

    def step(self) -> None:
        step_notebook(self.context, self.notebook)
        step_cluster(self.context, self.cluster)
        step_run(self.context, self.run)

    def nothing_died(self) -> bool:
        return self._pids() == self.pids

    def ask(self, headers: Headers, path: str) -> Any:
        base = f"{self.context.settings.public_url}{PREFIX}"
        client = TestClient(create_app(self.context, background=False), base_url=base)
        return client.get(f"{API}{path}", headers=headers)

    def end_everything(self) -> None:
        """Every process, and its records, as a step that saw the end leaves it."""
        processes = self.context.processes
        for seen in processes.observe_all():
            processes.stop(seen.workload_id, grace_s=0)
        eventually(lambda: all(seen.gone for seen in processes.observe_all()), what="all processes gone")
        for workload in self.everything:
            processes.forget(workload)

    def row(self, workload: str) -> WorkloadRow:
        with self.context.database.read() as session:
            return session.get_one(WorkloadRow, workload)

    def audit(self) -> dict[str, list[str]]:
        with self.context.database.read() as session:
            found: dict[str, list[str]] = {}
            for row in session.scalars(select(AuditRow)):
                found.setdefault(row.action, []).append(row.target)
            return found


@pytest.fixture(name="town")
def serve_town(context: Context, client: TestClient, ada: Headers, spawner: Headers) -> Iterator[Town]:
    program = context.settings.state / "program"
    (program / "bin").mkdir(parents=True)
    (program / "bin" / "python").write_text(PROGRAM)
    for path in (program, program / "bin", program / "bin" / "python"):
        path.chmod(0o755)
    furnish_with(context, program, PACKAGES, "bob")
    made = Town(context, client, spawner)
    yield made
    for seen in context.processes.observe_all():
        context.processes.stop(seen.workload_id, grace_s=0)
    eventually(lambda: all(seen.gone for seen in context.processes.observe_all()), what="all processes gone")
    made.context.database.close()
