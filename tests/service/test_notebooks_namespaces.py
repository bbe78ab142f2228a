"""Whose a namespace is on Kubernetes: chosen once, never shared, known again; and what runs in one that lost its label."""

# ruff: noqa: F401, F811

from contextlib import closing

import pytest
from sqlalchemy import select

from moorage_service.context import pods_of
from moorage_service.notebooks import operations, reconcile
from moorage_service.recovery import owners
from moorage_service.settings import Settings
from moorage_service.store.tables import Table, UserRow, WorkloadRow
from moorage_spawners.launch.errors import StaleViewError
from moorage_spawners.launch.labels import OWNER
from tests.service.conftest import GIB, Headers
from tests.service.notebook_pods_bench import Desk, desk, is_gone, settings
from tests.waiting import eventually


def test_where_an_admin_makes_namespaces_they_are_closed_by_us_and_never_shared(
    desk: Desk, bob: Headers, settings: Settings
) -> None:
    assert desk.context.settings.kubernetes is not None
    desk.context.settings.kubernetes.namespaces = ["team-a"]
    place = desk.admitted()["pod"]
    assert place["namespace"] == "team-a"
    assert (desk.made("Namespace"), desk.made("RoleBinding")) == ({}, {})
    assert {"deny-all", "allow-proxy"} <= set(desk.made("NetworkPolicy"))
    assert desk.made("ResourceQuota")
    body = {"user": "bob", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": GIB}}
    refused = desk.client.post("/api/v1/notebooks", headers=desk.spawner, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "namespace_missing")


def test_a_home_that_is_there_and_is_anothers_is_refused_with_the_remedy(desk: Desk) -> None:
    """As after a lost store: the namespace is nobody's by the rows, and somebody's by what is in it."""
    assert desk.context.settings.kubernetes is not None
    desk.context.settings.kubernetes.namespaces = ["team-a"]
    path = "/api/v1/namespaces/team-a/persistentvolumeclaims/home"
    theirs = {"metadata": {"name": "home", "labels": {OWNER: "us-before"}}, "kind": "PersistentVolumeClaim"}
    desk.kubernetes.made[path] = theirs
    refused = desk.admit()
    assert (refused.status_code, refused.json()["code"]) == (409, "namespace_refused")
    said = refused.json()["message"]
    assert "The home there is of user us-before, and you are user us-" in said
    assert desk.made("Secret") == {}  # nothing of theirs is put into it
    with desk.context.database.read() as session:
        (workload,) = session.scalars(select(WorkloadRow.id))
    desk.until(workload, "failed")

    theirs["metadata"]["labels"] = {}  # type: ignore[index]
    assert "is of nobody that Moorage knows" in desk.admit().json()["message"]
    asked = said.partition("`")[2].partition("`")[0].split()
    assert asked[:6] == ["kubectl", "--namespace", "team-a", "label", "persistentvolumeclaim", "home"]
    name, _, owner = asked[6].partition("=")
    desk.kubernetes.made[path] = {**theirs, "metadata": {"name": "home", "labels": {name: owner}}}
    with desk.context.database.read() as session:
        (workload,) = session.scalars(select(WorkloadRow.id).where(WorkloadRow.ended_at.is_(None)))
    desk.until(workload, "failed")
    assert desk.admitted()["pod"]["namespace"] == "team-a"


def test_who_met_anothers_home_gets_the_next_namespace_that_is_free(desk: Desk, bob: Headers) -> None:
    assert desk.context.settings.kubernetes is not None
    desk.context.settings.kubernetes.namespaces = ["team-a", "team-b", "team-c"]
    for name in ("team-a", "team-b"):
        theirs = {"metadata": {"name": "home", "labels": {OWNER: "us-before"}}, "kind": "PersistentVolumeClaim"}
        desk.kubernetes.made[f"/api/v1/namespaces/{name}/persistentvolumeclaims/home"] = theirs
    for name in ("team-a", "team-b"):
        refused = desk.admit()
        assert (refused.status_code, refused.json()["code"]) == (409, "namespace_refused")
        assert f"In the namespace {name} lies a home that is not yours. Start again" in refused.json()["message"]
        with desk.context.database.read() as session:
            (workload,) = session.scalars(select(WorkloadRow.id).where(WorkloadRow.ended_at.is_(None)))
        desk.until(workload, "failed")
    assert desk.admitted()["pod"]["namespace"] == "team-c"
    body = {"user": "bob", "admin": True, "project": "starter", "size": {"cpu": 1, "memory": GIB}}
    refused = desk.client.post("/api/v1/notebooks", headers=desk.spawner, json=body)
    assert "The home there is of user us-before, and you are user us-" in refused.json()["message"]


def test_who_has_a_home_is_not_moved_when_its_label_says_it_is_anothers(desk: Desk) -> None:
    assert desk.context.settings.kubernetes is not None
    desk.context.settings.kubernetes.namespaces = ["team-a", "team-b"]
    first = desk.admitted()
    operations.give_up(desk.context, first["workload_id"], "To start it anew.")
    desk.until(first["workload_id"], "failed")
    home = desk.kubernetes.made["/api/v1/namespaces/team-a/persistentvolumeclaims/home"]
    own, home["metadata"]["labels"] = home["metadata"]["labels"], {OWNER: "us-other"}
    assert "The home there is of user us-other" in desk.admit().json()["message"]
    home["metadata"]["labels"] = own
    with desk.context.database.read() as session:
        (workload,) = session.scalars(select(WorkloadRow.id).where(WorkloadRow.ended_at.is_(None)))
    desk.until(workload, "failed")
    assert desk.admitted()["pod"]["namespace"] == "team-a"


def test_what_runs_in_a_namespace_that_lost_its_label_still_runs(desk: Desk) -> None:
    answer = desk.admitted()
    workload, namespace = answer["workload_id"], answer["pod"]["namespace"]
    desk.pod(answer)
    desk.until(workload, "starting")
    desk.relabel(namespace, {})
    pods = desk.context.pods
    assert pods is not None
    eventually(lambda: "lost its label" in str(pods.heard_of()), what="the loss")
    assert [seen.state for seen in desk.context.processes.observe(workload)] == ["running"]
    # A service that starts now does not hear of the namespace at all.
    anew = pods_of(desk.context.settings, desk.context.database, desk.context.wakeup)
    assert anew is not None
    with closing(anew):
        with pytest.raises(StaleViewError, match="not known yet"):
            anew.observe(workload)
        eventually(lambda: is_gone(anew, workload) is False, what="the pod")
        desk.remove_pod(answer)
        desk.remove_space(namespace)
        eventually(lambda: is_gone(anew, workload), what="its end")


def test_a_namespace_is_kept_though_its_owner_is_renamed(desk: Desk) -> None:
    first = desk.admitted()
    with desk.context.database.begin() as session:
        user = session.get_one(UserRow, first["pod"]["owner"])
        assert user.namespace == first["pod"]["namespace"]
        user.hub_name = "lovelace"
    operations.give_up(desk.context, first["workload_id"], "To start it anew.")
    reconcile.step(desk.context, first["workload_id"])
    again = desk.client.post(
        "/api/v1/notebooks", headers=desk.spawner,
        json={"user": "lovelace", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": GIB}},
    ).json()  # fmt: skip
    assert again["pod"]["namespace"] == first["pod"]["namespace"]


def test_users_come_back_to_their_own_namespaces_when_the_store_was_lost(desk: Desk) -> None:
    places = {}
    for name in ("ada", "grace"):
        made = desk.client.post(
            "/api/v1/notebooks", headers=desk.spawner,
            json={"user": name, "admin": True, "project": "starter", "size": {"cpu": 1, "memory": GIB}},
        ).json()  # fmt: skip
        places[name] = (made["pod"]["owner"], made["pod"]["namespace"])
    with desk.context.database.engine.begin() as connection:
        Table.metadata.drop_all(connection)
        Table.metadata.create_all(connection)
    with desk.context.database.begin() as session:
        owners.know_again(session, desk.context.settings.state, now=desk.context.clock())
    with desk.context.database.read() as session:
        assert {user.hub_name: (user.id, user.namespace) for user in session.scalars(select(UserRow))} == places
