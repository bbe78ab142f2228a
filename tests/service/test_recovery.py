"""A store that was lost, or put back older than what runs: what runs is known again, ended or left, and nobody's process dies of it."""

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
from moorage_service.recovery.settle import settle, unknown
from moorage_service.settings import PREFIX, Settings
from moorage_service.store.tables import (
    AuditRow,
    ClusterRow,
    EventRow,
    JobRow,
    JobVersionRow,
    LimitRow,
    ProjectRow,
    QuarantineRow,
    ReservationRow,
    RunRow,
    Table,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Identity, ProcessSpec
from tests.fakes.clock import FakeClock
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.engines_bench import furnish_with, open_settings
from tests.service.world import SIZE
from tests.waiting import eventually

API = "/api/v1"
PACKAGES = {"ray": "2.60.0", "aiohttp-cors": "0.8", "distributed": "2026.8.0", "bokeh": "3.9"}
PROGRAM = "#!/bin/sh\nexec sleep 3600\n"


@pytest.fixture
def settings(database_url: str | None) -> Iterator[Settings]:
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
        self.context.processes.start(
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

    def row(self, workload: str) -> WorkloadRow:
        with self.context.database.read() as session:
            return session.get_one(WorkloadRow, workload)

    def audit(self) -> dict[str, list[str]]:
        with self.context.database.read() as session:
            found: dict[str, list[str]] = {}
            for row in session.scalars(select(AuditRow)):
                found.setdefault(row.action, []).append(row.target)
            return found


@pytest.fixture
def town(context: Context, client: TestClient, ada: Headers, spawner: Headers) -> Iterator[Town]:
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


@each_database
def test_a_lost_store_is_known_again_from_what_runs(town: Town) -> None:
    ids = {name: getattr(town.row(town.notebook), name) for name in ("owner_id", "project_id")}
    with town.context.database.read() as session:
        uid = session.get_one(UserRow, ids["owner_id"]).uid
        held = {each: session.get_one(ReservationRow, each).amounts for each in town.everything}
        block = session.get_one(ClusterRow, town.cluster).port_block
    town.lose_the_store()
    assert set(unknown(town.context, town.everything)) == set(town.everything)
    settle(town.context)
    town.step()
    assert town.nothing_died()
    with town.context.database.read() as session:
        assert session.get_one(UserRow, ids["owner_id"]).uid == uid
        assert session.get_one(ProjectRow, ids["project_id"]).slug == "starter"
        for each in town.everything:
            reservation = session.get_one(ReservationRow, each)
            assert (reservation.amounts, reservation.bound, reservation.released_at) == (held[each], True, None)
            assert session.scalars(
                select(EventRow).where(EventRow.workload_id == each, EventRow.code == "workload.adopted")
            ).one()
        cluster = session.get_one(ClusterRow, town.cluster)
        assert (cluster.port_block, cluster.scale["workers"], cluster.target_workers) == (
            block,
            ["worker-1", "worker-2"],
            2,
        )
    assert sorted(town.audit()["workload.adopted"]) == sorted(town.everything)


def test_every_token_is_good_again_and_a_create_that_is_repeated_makes_nothing_twice(town: Town) -> None:
    town.lose_the_store()
    settle(town.context)
    shown = town.ask(town.token, f"/notebooks/{town.notebook}").json()
    assert (shown["phase"], shown["url"]) == ("ready", "/user/ada/starter/")
    assert town.ask(town.run_token, f"/runs/{town.run}").status_code == 200
    base = f"{town.context.settings.public_url}{PREFIX}"
    client = TestClient(create_app(town.context, background=False), base_url=base)
    report = {"generation": 1, "ready": True, "versions": {"ray": "2.60.0"}, "wanted": 2,
              "workers": [{"name": f"worker-{number}", "busy": False, "idle_s": 0} for number in (1, 2)]}  # fmt: skip
    answer = client.post(f"{API}/agent/reports", json=report, headers=town.agent)
    assert answer.status_code == 200, answer.text
    assert town.row(town.cluster).phase == Phase.READY.value
    body = {"spec": {"engine": "ray", "min_workers": 2, "max_workers": 3, "worker": {"cpu": 1, "memory": 1 << 30}}}
    again = client.post(f"{API}/clusters", json=body, headers={**town.token, "Idempotency-Key": "once"})
    assert again.json()["id"] == town.cluster


def test_a_run_that_ended_while_the_store_was_lost_has_its_end_recorded(town: Town) -> None:
    town.context.processes.stop(town.run, grace_s=0)
    eventually(lambda: all(seen.gone for seen in town.context.processes.observe(town.run)), what="the run's end")
    town.lose_the_store()
    settle(town.context)
    step_run(town.context, town.run)
    row = town.row(town.run)
    assert (row.phase, row.ended_at is not None) == (Phase.FAILED.value, True)
    assert town.row(town.notebook).phase == Phase.READY.value


def test_adoption_is_never_refused_but_what_is_over_a_limit_is_said(town: Town) -> None:
    town.lose_the_store()
    with town.context.database.begin() as session:
        session.add(LimitRow(scope="everyone", resource="cpu", amount=1000, created_at=town.context.clock()))
    settle(town.context)
    with town.context.database.read() as session:
        said = session.scalars(select(EventRow.message).where(EventRow.code == "workload.adopted")).all()
        assert any(
            "More is held now than the limit allows that each user may hold at most 1 cpu at once" in each
            for each in said
        )
    town.step()
    assert town.nothing_died()


def test_by_policy_what_is_not_known_is_ended_and_said(town: Town) -> None:
    town.lose_the_store()
    town.context.settings.unknown_workloads = "end"
    settle(town.context)
    eventually(lambda: all(seen.gone for seen in town.context.processes.observe_all()), what="the end of all")
    settle(town.context)
    assert town.context.processes.observe_all() == []
    assert sorted(town.audit()["workload.ended_unknown"]) == sorted(town.everything)
    with town.context.database.read() as session:
        assert session.scalars(select(WorkloadRow)).all() == []


def test_by_policy_what_is_not_known_is_left_alone_and_said_once(town: Town) -> None:
    town.lose_the_store()
    town.context.settings.unknown_workloads = "leave"
    settle(town.context)
    settle(town.context)
    assert town.nothing_died()
    assert sorted(town.audit()["workload.left"]) == sorted(town.everything)


def test_a_card_that_can_not_be_read_hinders_no_other_and_is_said(town: Town) -> None:
    path = town.context.settings.state / "workloads" / town.cluster / "service.json"
    path.write_text('{"rows": {"users": [{"id": 3}]}}')
    town.lose_the_store()
    settle(town.context)
    settle(town.context)
    assert town.nothing_died()
    assert town.row(town.notebook).phase == Phase.READY.value
    with town.context.database.read() as session:
        assert session.get(WorkloadRow, town.cluster) is None
        assert "can't be known again" in session.get_one(QuarantineRow, f"unknown/{town.cluster}").reason


def test_a_name_that_somebody_else_has_now_is_not_theirs_who_come_back(town: Town, clock: FakeClock) -> None:
    owner = town.row(town.notebook).owner_id
    town.lose_the_store()
    with town.context.database.begin() as session:
        session.add(UserRow(hub_name="ada", uid=64000, groups=[], created_at=clock()))
        session.add(ProjectRow(slug="starter", name="Another", manifest="", created_at=clock()))
    settle(town.context)
    with town.context.database.read() as session:
        back = session.get_one(UserRow, owner)
        assert back.hub_name.startswith("ada-")
        assert session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one().id != owner
        slugs = set(session.scalars(select(ProjectRow.slug)))
    assert "starter" in slugs
    assert len(slugs) == 2
    assert town.nothing_died()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives uids")
def test_a_uid_that_somebody_else_has_now_is_never_shared(town: Town, clock: FakeClock) -> None:
    with town.context.database.read() as session:
        uid = session.get_one(UserRow, town.row(town.notebook).owner_id).uid
    town.lose_the_store()
    with town.context.database.begin() as session:
        session.add(UserRow(hub_name="eve", uid=uid, groups=[], created_at=clock()))
    settle(town.context)
    with town.context.database.read() as session:
        assert (
            f"its uid {uid} has been given to another"
            in session.get_one(QuarantineRow, f"unknown/{town.notebook}").reason
        )
    assert town.nothing_died()
