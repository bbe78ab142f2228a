"""Clusters at the service's routes and in its reconciler. Processes are real; only the engine's program is a stand-in."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import WorkloadKind
from moorage_service.clusters import operations
from moorage_service.clusters.reconcile import step
from moorage_service.context import Context
from moorage_service.identity.tokens import issue_token
from moorage_service.settings import Settings
from moorage_service.store.tables import ClusterRow, ProjectRow, ReservationRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Observation
from tests.fakes.clock import FakeClock
from tests.service.conftest import Headers
from tests.service.engines_bench import furnish_with, notebook_of, open_settings
from tests.waiting import eventually

API = "/api/v1"
PACKAGES = {"ray": "2.60.0", "aiohttp-cors": "0.8", "distributed": "2026.8.0", "bokeh": "3.9"}
SIZE = {"cpu": 1, "memory": 1 << 30}
PROGRAM = """#!/bin/sh
# An engine's program that starts nothing: it writes a line and waits. With the file "failing" beside it, workers end at once.
echo "started: $*"
case "$*" in *--head*|*moorage.agent*) ;; *) [ -e "$(dirname "$0")/failing" ] && exit 3 ;; esac
exec sleep 3600
"""


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=26400) as made:
        yield made


@pytest.fixture
def environment(settings: Settings) -> Path:
    folder = settings.state / "program"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "python"
    program.write_text(PROGRAM)
    for path in (folder, folder / "bin", program):
        path.chmod(0o755)
    return folder


class Clusters:
    """Talks to the routes as ada's notebook and steps the reconciler by hand."""

    def __init__(self, client: TestClient, context: Context, notebook: Headers) -> None:
        self.client = client
        self.context = context
        self.notebook = notebook

    def post(self, expect: int = 201, key: str | None = None, name: str | None = None, **spec: Any) -> dict[str, Any]:
        body = {"name": name, "spec": {"engine": "ray", "worker": SIZE, **spec}}
        headers = self.notebook | ({} if key is None else {"Idempotency-Key": key})
        answer = self.client.post(f"{API}/clusters", json=body, headers=headers)
        assert answer.status_code == expect, answer.text
        return dict(answer.json())

    def start(self, **spec: Any) -> str:
        cluster = str(self.post(**spec)["id"])
        self.step(cluster)
        return cluster

    def step(self, cluster: str) -> dict[str, Any]:
        step(self.context, cluster)
        return self.get(cluster)

    def get(self, cluster: str) -> dict[str, Any]:
        answer = self.client.get(f"{API}/clusters/{cluster}", headers=self.notebook)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def seen(self, cluster: str) -> dict[str, Observation]:
        return {each.role: each for each in self.context.processes.observe(cluster)}

    def alive(self, cluster: str) -> set[str]:
        return {role for role, each in self.seen(cluster).items() if not each.gone}

    def row(self, cluster: str) -> ClusterRow:
        with self.context.database.read() as session:
            return session.get_one(ClusterRow, cluster)

    def agent(self, cluster: str) -> Headers:
        return {"Authorization": f"Bearer {operations.credentials_of(self.context, self.row(cluster))['agent']}"}

    def report(self, cluster: str, *workers: dict[str, Any], expect: int = 200, **fields: Any) -> dict[str, Any]:
        body = {"generation": 1, "ready": True, "versions": {"ray": "2.60.0"}, "workers": list(workers), **fields}
        answer = self.client.post(f"{API}/agent/reports", json=body, headers=self.agent(cluster))
        assert answer.status_code == expect, answer.text
        return dict(answer.json())

    def kill(self, cluster: str, role: str) -> None:
        pid = self.seen(cluster)[role].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.seen(cluster)[role].gone, what=f"the end of {role}")

    def until_ended(self, cluster: str) -> dict[str, Any]:
        return eventually(lambda: found if (found := self.step(cluster))["ended_at"] else None, what="the end")


def worker(name: str, *, busy: bool = False, idle_s: float = 0.0) -> dict[str, Any]:
    return {"name": name, "busy": busy, "idle_s": idle_s}


@pytest.fixture
def clusters(client: TestClient, context: Context, people: dict[str, Headers], environment: Path) -> Iterator[Clusters]:
    made = Clusters(client, context, furnish_with(context, environment, PACKAGES, "ada"))
    yield made
    for cluster in {each.workload_id for each in context.processes.observe_all()}:
        context.processes.stop(cluster, grace_s=0)
        eventually(lambda cluster=cluster: not made.alive(cluster), what="the end of all processes")  # type: ignore[misc]


def test_a_cluster_is_admitted_at_its_largest_size_and_started(clusters: Clusters) -> None:
    made = clusters.post(max_workers=3)
    assert (made["phase"], made["name"]) == ("pending", "ray-1")
    assert made["holds"] == {"clusters": 1, "cpu": 4, "memory": 4.5 * 2**30}
    found = clusters.step(made["id"])
    assert found["phase"] == "starting"
    assert clusters.alive(made["id"]) == {"head", "agent", "worker-1"}
    clusters.step(made["id"])
    assert len(clusters.seen(made["id"])) == 3


def test_the_same_key_makes_one_cluster(clusters: Clusters) -> None:
    assert clusters.post(key="k1")["id"] == clusters.post(key="k1")["id"] != clusters.post(key="k2")["id"]


def test_names_are_given_in_order_and_not_twice(clusters: Clusters) -> None:
    assert [clusters.post()["name"], clusters.post()["name"], clusters.post(engine="dask")["name"]] == [
        "ray-1",
        "ray-2",
        "dask-1",
    ]
    assert "'ray-1'" in clusters.post(409, name="ray-1")["message"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"max_workers": 0}, "max_workers"),
        ({"max_workers": 99}, "max_workers"),
        ({"min_workers": -1}, "min_workers"),
        ({"min_workers": 3, "max_workers": 2}, "min_workers"),
        ({"worker": {"cpu": 0, "memory": 1 << 30}}, "worker.cpu"),
        ({"worker": {"cpu": 1, "memory": 1 << 20}}, "worker.memory"),
        ({"worker": {**SIZE, "gpu": 1, "gpu_type": "h200"}}, "worker.gpu_type"),
        ({"worker": {**SIZE, "gpu_type": "h200"}}, "worker.gpu_type"),
        ({"head": {"cpu": 1, "memory": 1 << 20}}, "head.memory"),
        ({"head": {**SIZE, "gpu": 1}}, "head.gpu"),
        ({"name": "Not a name"}, "name"),
    ],
)
def test_a_bad_spec_is_refused_naming_the_field_and_nothing_is_made(
    clusters: Clusters, spec: dict[str, Any], field: str
) -> None:
    refused = clusters.post(400, **spec)
    assert refused["field"] == field
    assert refused["message"].startswith(f"{field}:")
    assert clusters.client.get(f"{API}/clusters", headers=clusters.notebook).json() == []


def test_a_limit_refuses_with_the_rule_and_what_holds_it(clusters: Clusters, admin: Headers) -> None:
    clusters.post()
    limit = {"scope": "user", "name": "ada", "resource": "cpu", "amount": 2}
    assert clusters.client.post(f"{API}/limits", json=limit, headers=admin).status_code == 201
    refused = clusters.post(409)
    assert refused["refusal"]["rule"] == "ada may hold at most 2 cpu at once"
    assert [holder["name"] for holder in refused["refusal"]["held_by"]] == ["ray-1"]
    assert len(clusters.client.get(f"{API}/clusters", headers=clusters.notebook).json()) == 1


def test_options_tell_bounds_defaults_and_what_is_left(clusters: Clusters) -> None:
    options = clusters.client.get(f"{API}/clusters/options", headers=clusters.notebook).json()
    assert {each["engine"]: each["available"] for each in options["engines"]} == {"ray": True, "dask": True}
    assert options["max_worker"]["cpu"] == 8
    assert {each["resource"]: each["left"] for each in options["remaining"]}["cpu"] == 8


def test_an_environment_without_the_engine_is_told_how_to_get_it(clusters: Clusters, context: Context) -> None:
    from moorage_service.store.tables import EnvironmentRow

    with context.database.begin() as session:
        session.scalars(select(EnvironmentRow)).one().packages = {"distributed": "2026.8.0"}
    options = clusters.client.get(f"{API}/clusters/options", headers=clusters.notebook).json()
    ray = next(each for each in options["engines"] if each["engine"] == "ray")
    assert not ray["available"]
    assert "ray[client,default]" in ray["why_not"]
    assert "ray[client,default]" in clusters.post(409)["message"]


def test_only_the_agent_makes_it_ready(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.report(cluster, ready=False, versions={})
    assert clusters.get(cluster)["phase"] == "starting"
    clusters.report(cluster, ready=False)
    assert clusters.get(cluster)["reason"] == "The head answers; 0 of 1 workers have joined."
    clusters.report(cluster, worker("worker-1"))
    ready = clusters.get(cluster)
    assert (ready["phase"], ready["workers"], ready["versions"]) == ("ready", 1, {"ray": "2.60.0"})
    assert ready["dashboard"] == f"/services/moorage/dashboards/{cluster}/"


def test_a_claim_to_be_ready_without_enough_workers_is_not_believed(clusters: Clusters) -> None:
    cluster = clusters.start(min_workers=2, max_workers=2)
    clusters.report(cluster, worker("worker-1"), ready=True)
    assert clusters.get(cluster)["phase"] == "starting"


def test_it_grows_with_its_work_and_retires_what_is_idle(clusters: Clusters) -> None:
    cluster = clusters.start(max_workers=2)
    clusters.report(cluster, worker("worker-1", busy=True), wanted=7)
    assert clusters.step(cluster)["target_workers"] == 2
    assert clusters.alive(cluster) == {"head", "agent", "worker-1", "worker-2"}
    both = [worker("worker-1", idle_s=30), worker("worker-2", idle_s=60)]
    assert clusters.report(cluster, *both)["retire"] == ["worker-2"]
    clusters.step(cluster)
    assert "worker-2" in clusters.alive(cluster)  # until the engine has let it go
    clusters.report(cluster, both[0])
    eventually(lambda: clusters.step(cluster) and "worker-2" not in clusters.alive(cluster), what="the end of worker-2")
    codes = [event["code"] for event in clusters.step(cluster)["events"]]
    assert "cluster.grows" in codes
    assert "cluster.shrinks" in codes
    assert "cluster.worker_lost" not in codes


def test_a_lost_worker_is_replaced_and_the_cluster_is_not_ready_meanwhile(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1"))
    clusters.kill(cluster, "worker-1")
    clusters.report(cluster, ready=False)
    assert clusters.get(cluster)["phase"] == "starting"
    clusters.step(cluster)
    assert clusters.alive(cluster) == {"head", "agent", "worker-2"}
    clusters.report(cluster, worker("worker-2"))
    assert clusters.get(cluster)["phase"] == "ready"
    assert any(
        "worker-1 is gone: it was ended by signal 9" in event["message"] for event in clusters.get(cluster)["events"]
    )


def test_workers_that_end_at_once_are_given_up(clusters: Clusters, environment: Path, clock: FakeClock) -> None:
    (environment / "bin" / "failing").touch()
    cluster = clusters.start()

    def given_up() -> dict[str, Any] | None:
        clock.advance(5)
        found = clusters.step(cluster)
        return found if found["ended_at"] else None

    ended = eventually(given_up, what="giving up")
    assert (ended["phase"], ended["reason_code"]) == ("failed", "cluster.workers_fail")
    assert "exit status 3" in ended["reason"]


def test_a_dead_head_fails_the_cluster_with_its_reason_and_leaves_nothing(
    clusters: Clusters, settings: Settings
) -> None:
    cluster = clusters.start()
    folder = operations.platform_of(clusters.context).folder(cluster)
    assert folder.exists()
    clusters.kill(cluster, "head")
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["reason_code"], ended["holds"]) == ("failed", "cluster.head_ended", {})
    assert "ended by signal 9" in ended["reason"]
    assert "started:" in ended["reason"]  # the head's last lines
    row = clusters.row(cluster)
    assert (row.port_block, row.sealed) == (None, None)
    assert clusters.context.processes.observe(cluster) == []
    assert not folder.exists()
    log = clusters.client.get(f"{API}/clusters/{cluster}/log", headers=clusters.notebook).text
    assert log.startswith("==> head <==\nstarted:")


def test_a_lost_agent_is_replaced(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.kill(cluster, "agent")
    clusters.step(cluster)
    assert "agent-2" in clusters.alive(cluster)


def test_one_that_does_not_become_ready_in_time_is_ended_with_a_sentence(clusters: Clusters, clock: FakeClock) -> None:
    cluster = clusters.start()
    clusters.report(cluster, ready=False)
    clock.advance(clusters.context.settings.start_timeout_s + 1)
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["reason_code"]) == ("failed", "cluster.start_timeout")
    assert "0 of 1 workers have joined" in ended["reason"]


def test_silence_is_not_readiness(clusters: Clusters, clock: FakeClock) -> None:
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1"))
    clock.advance(60)
    assert clusters.step(cluster)["reason_code"] == "cluster.silent"
    clusters.report(cluster, worker("worker-1"))
    assert clusters.get(cluster)["phase"] == "ready"


def test_stopped_it_holds_on_until_nothing_is_left(clusters: Clusters) -> None:
    cluster = clusters.start()
    answer = clusters.client.delete(f"{API}/clusters/{cluster}", headers=clusters.notebook)
    assert (answer.status_code, answer.json()["phase"]) == (202, "stopping")
    assert answer.json()["holds"]["clusters"] == 1
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["holds"]) == ("stopped", {})
    assert clusters.client.delete(f"{API}/clusters/{cluster}", headers=clusters.notebook).status_code == 202


def test_credentials_go_to_the_owner_s_workloads_only(
    clusters: Clusters, people: dict[str, Headers], context: Context
) -> None:
    cluster = clusters.start()
    path = f"{API}/clusters/{cluster}/attach"
    assert clusters.client.get(path, headers=clusters.notebook).json()["code"] == "cluster_not_ready"
    clusters.report(cluster, worker("worker-1"))
    attach = clusters.client.get(path, headers=clusters.notebook).json()
    ports = operations.site_of(context, clusters.row(cluster)).ports
    assert attach["address"] == f"127.0.0.1:{ports['gcs']}"
    assert len(attach["token"]) == 64
    assert clusters.client.get(path, headers=people["ada"]).status_code == 403
    assert clusters.client.get(path, headers=people["root"]).status_code == 403
    assert clusters.client.get(path, headers=people["bob"]).status_code == 404
    with context.database.begin() as session:
        bobs = notebook_of(session, context, "bob", session.scalars(select(ProjectRow)).one())
    assert clusters.client.get(path, headers=bobs).status_code == 404


def test_somebody_else_s_cluster_does_not_exist(clusters: Clusters, bob: Headers) -> None:
    cluster = clusters.start()
    for path in ("", "/log", "/attach"):
        assert clusters.client.get(f"{API}/clusters/{cluster}{path}", headers=bob).status_code == 404
    assert clusters.client.delete(f"{API}/clusters/{cluster}", headers=bob).status_code == 404
    assert clusters.client.get(f"{API}/clusters", headers=bob).json() == []


def test_a_report_needs_the_cluster_s_own_token_and_generation(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.report(cluster, expect=409, generation=7)
    body = {"generation": 1, "ready": True}
    assert clusters.client.post(f"{API}/agent/reports", json=body, headers=clusters.notebook).status_code == 403
    assert (
        clusters.client.post(f"{API}/clusters", json={"spec": {}}, headers=clusters.agent(cluster)).status_code == 403
    )


def test_a_run_sees_its_own_cluster_which_ends_with_it(clusters: Clusters, context: Context) -> None:
    other = clusters.post()["id"]
    with context.database.begin() as session:
        notebook = session.scalars(select(WorkloadRow).where(WorkloadRow.kind == "notebook")).one()
        project = session.scalars(select(ProjectRow)).one()
        run = lifecycle.new_workload(
            session, kind=WorkloadKind.RUN, name="nightly", owner_id=notebook.owner_id, project_id=project.id,
            now=context.clock(), environment="engines",
        )  # fmt: skip
        session.flush()
        spec = operations.spec_of(clusters.row(other))
        own = operations.create_cluster(session, context, run.owner_id, project, spec, parent=run).id
        headers = {"Authorization": f"Bearer {issue_token(session, run)}"}
        run_id = run.id
    found = clusters.client.get(f"{API}/clusters", headers=headers).json()
    assert [each["id"] for each in found] == [own]
    assert clusters.client.get(f"{API}/clusters/{other}/attach", headers=headers).status_code == 404
    clusters.step(own)
    with context.database.begin() as session:
        lifecycle.ask_to_end(session, session.get_one(WorkloadRow, run_id), now=context.clock(), reason="Stopped.")
    assert clusters.until_ended(own)["phase"] == "stopped"


def test_the_working_folder_is_its_user_s_alone_and_holds_the_certificate(clusters: Clusters) -> None:
    cluster = clusters.start(engine="dask")
    folder = operations.platform_of(clusters.context).folder(cluster)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.glob("*.pem")} == {"ca.pem", "cert.pem", "key.pem"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.pem"))
    if os.geteuid() == 0:
        assert {path.stat().st_uid for path in (folder, *folder.iterdir())} == {clusters.context.settings.uid_first + 1}


def test_a_folder_too_deep_for_sockets_is_replaced_by_a_short_one(settings: Settings, context: Context) -> None:
    from moorage_service.clusters.platforms.local import LONGEST_FOLDER, LocalPlatform

    deep = settings.model_copy(update={"state": settings.state / ("d" * 60)})
    assert len(str(LocalPlatform(deep, context.processes).folder("cl-abcdefghijkm"))) <= LONGEST_FOLDER
    assert LocalPlatform(settings, context.processes).folder("cl-abcdefghijkm").is_relative_to(settings.state)


def test_credentials_are_sealed_in_the_store(clusters: Clusters) -> None:
    cluster = clusters.post()["id"]
    sealed = clusters.row(cluster).sealed
    assert sealed is not None
    token = json.loads(clusters.context.vault.open_sealed(sealed))["token"]
    assert token.encode() not in sealed


def test_a_cluster_keeps_its_reservation_bound_while_it_runs(clusters: Clusters) -> None:
    cluster = clusters.start()
    with clusters.context.database.read() as session:
        assert session.get_one(ReservationRow, cluster).bound
