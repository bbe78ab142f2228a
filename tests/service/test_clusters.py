"""Clusters at the service's routes: what is asked, what is refused, who may attach, and what a cluster is given."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import WorkloadKind
from moorage_service.clusters import operations
from moorage_service.context import Context
from moorage_service.identity.tokens import issue_token
from moorage_service.settings import Settings
from moorage_service.store.tables import EnvironmentRow, ProjectRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.service.clusters_bench import API, SIZE, Clusters, open_clusters, worker
from tests.service.conftest import Headers
from tests.service.engines_bench import notebook_of, open_settings


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=26400) as made:
        yield made


@pytest.fixture
def clusters(client: TestClient, context: Context, people: dict[str, Headers]) -> Iterator[Clusters]:
    assert "ada" in people
    with open_clusters(client, context) as made:
        yield made


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
    with context.database.begin() as session:
        session.scalars(select(EnvironmentRow)).one().packages = {"distributed": "2026.8.0"}
    options = clusters.client.get(f"{API}/clusters/options", headers=clusters.notebook).json()
    ray = next(each for each in options["engines"] if each["engine"] == "ray")
    assert not ray["available"]
    assert "ray[client,default]" in ray["why_not"]
    assert "ray[client,default]" in clusters.post(409)["message"]


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
    assert (
        len(str(LocalPlatform(deep, context.machine, lambda _cluster: str).folder("cl-abcdefghijkm"))) <= LONGEST_FOLDER
    )
    assert (
        LocalPlatform(settings, context.machine, lambda _cluster: str)
        .folder("cl-abcdefghijkm")
        .is_relative_to(settings.state)
    )


def test_credentials_are_sealed_in_the_store(clusters: Clusters) -> None:
    cluster = clusters.post()["id"]
    sealed = clusters.row(cluster).sealed
    assert sealed is not None
    token = json.loads(clusters.context.vault.open_sealed(sealed))["token"]
    assert token.encode() not in sealed
