"""Builds by pods: a real uv and a real registry, a small index, and a cluster whose one machine is this one."""

# ruff: noqa: F401, F811

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage_images.oci.connection import Connection
from moorage_images.oci.credentials import Credential
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_service.context import Context
from moorage_service.projects.builder import Builder
from moorage_service.store.tables import BuildRow
from tests.fakes.package_index import PackageIndex
from tests.images.base_images import push_base
from tests.images.registries import NAME, PASSWORD, behind_password, running
from tests.service.pod_builds_bench import (
    PLACE,
    Cluster,
    Headers,
    answer,
    base,
    cluster,
    images,
    log_of,
    registry,
    row,
    settings,
)
from tests.service.test_projects_builds import make, state
from tests.waiting import eventually


def test_a_build_becomes_an_image_on_the_notebook_image(
    client: TestClient, context: Context, cluster: Cluster, registry: Registry, base: Reference, ada: Headers
) -> None:
    build = make(client, ada)
    assert cluster.builder.run_once()
    said = log_of(client, ada, build)
    assert answer(client, ada, build)["state"] == "succeeded", said
    made = row(context)
    assert made.image is not None
    image = registry.image(parse(made.image), "amd64")
    assert image.labels["moorage.environment"] == made.digest
    assert made.base == str(registry.image(base, "amd64").reference)
    assert made.packages["tide"] == "1.0"
    assert client.get("/api/v1/projects/fish", headers=ada).json()["environment"]["digest"] == made.digest
    assert cluster.kubelet.ran == ["resolve", "install", "try", "push"]
    assert [line.split()[0] for line in said.splitlines() if not line.startswith(" ")] == [
        "Resolving", "Installing", "Compiling", "Starting", "Environment", "Its",
    ]  # fmt: skip
    assert cluster.kubernetes.objects() == []
    assert [path for path in cluster.kubernetes.made if "/secrets/" in path] == []


def test_the_same_versions_are_there_at_once_for_every_project(
    client: TestClient, context: Context, cluster: Cluster, ada: Headers, bob: Headers
) -> None:
    make(client, ada)
    cluster.builder.run_once()
    image = row(context).image
    build = make(client, bob, slug="trout")
    cluster.builder.run_once()
    assert "is there already" in log_of(client, bob, build)
    assert cluster.kubelet.ran.count("install") == 1
    assert row(context).image == image


def test_an_image_that_somebody_took_away_is_built_again(
    client: TestClient, context: Context, cluster: Cluster, registry: Registry, ada: Headers
) -> None:
    make(client, ada)
    cluster.builder.run_once()
    image = parse(str(row(context).image))
    registry.delete(image)
    again = client.post("/api/v1/projects/fish/builds", headers=ada).json()["id"]
    cluster.builder.run_once()
    assert answer(client, ada, again)["state"] == "succeeded"
    assert registry.digest(image) is not None


def test_what_runs_packages_code_is_one_projects_own_and_sees_no_password(
    client: TestClient, context: Context, cluster: Cluster, index: PackageIndex, ada: Headers, bob: Headers
) -> None:
    told = context.settings.kubernetes
    assert told is not None
    told.builds.env = {"UV_INDEX_URL": "https://name:canary@index.example.org/simple"}
    seen: list[list[str]] = []  # of each pod the containers that hold it
    run = cluster.kubelet

    async def listening(pod: dict[str, Any]) -> None:
        steps = (*pod["spec"]["initContainers"], *pod["spec"]["containers"])
        seen.append([each["name"] for each in steps if "canary" in str(each)])
        await run(pod)

    cluster.kubernetes.kubelet = listening
    index.source("brine", "1.0", "extra = {}")
    digests = set()
    for who, slug in ((ada, "fish"), (bob, "trout")):
        build = make(client, who, "brine", slug)
        cluster.builder.run_once()
        said = log_of(client, who, build)
        assert "building from source, for this project alone" in said
        assert "asked without its name and password" in said
        digests.add(answer(client, who, build)["digest"])
    assert len(digests - {None}) == 2
    assert seen == [["resolve"], [], ["push"]] * 2  # the last runs none of it


def test_a_failure_is_told_with_the_resolvers_reason(client: TestClient, cluster: Cluster, ada: Headers) -> None:
    build = make(client, ada, "tide==9.0")
    cluster.builder.run_once()
    found = answer(client, ada, build)
    assert (found["state"], "tide==9.0" in found["error"]) == ("failed", True)


def test_a_queued_build_with_system_packages_fails_in_words_once_nobody_installs_them(
    client: TestClient, context: Context, cluster: Cluster, ada: Headers
) -> None:
    build = make(client, ada)
    with context.database.begin() as session:
        session.get_one(BuildRow, build).manifest += "system: [libgomp1]\n"
    cluster.builder.run_once()
    assert "`builds.system.namespace`" in answer(client, ada, build)["error"]
    assert cluster.kubernetes.made == {}


@pytest.mark.parametrize(
    ("waiting", "says"),
    [
        ({"reason": "ErrImagePull", "message": "401 Unauthorized"}, "it takes a pull secret, and the pod has none"),
        ({"reason": "CreateContainerError", "message": "executable file not found"}, "not in the image"),
    ],
)
def test_a_pod_that_cannot_run_fails_the_build_in_words(
    client: TestClient, cluster: Cluster, ada: Headers, waiting: dict[str, str], says: str
) -> None:
    async def refuse(pod: dict[str, Any]) -> None:
        seen = [{"name": pod["spec"]["containers"][0]["name"], "state": {"waiting": waiting}}]
        status = {"phase": "Pending", "containerStatuses": seen}
        metadata = pod["metadata"]
        cluster.kubernetes.put(metadata["name"], metadata["namespace"], metadata=metadata, status=status)

    cluster.kubernetes.kubelet = refuse
    build = make(client, ada)
    cluster.builder.run_once()
    found = answer(client, ada, build)
    assert (found["state"], says in found["error"]) == ("failed", True), found
    assert cluster.kubernetes.objects() == []


def test_a_build_that_took_too_much_memory_says_which_setting(
    client: TestClient, cluster: Cluster, ada: Headers
) -> None:
    async def kill(pod: dict[str, Any]) -> None:
        seen = [{"name": "resolve", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]
        metadata = pod["metadata"]
        status = {"phase": "Failed", "containerStatuses": seen}
        cluster.kubernetes.put(metadata["name"], metadata["namespace"], metadata=metadata, status=status)

    cluster.kubernetes.kubelet = kill
    build = make(client, ada)
    cluster.builder.run_once()
    assert "`builds.memory`" in answer(client, ada, build)["error"]


def test_a_full_quota_is_waited_for(client: TestClient, cluster: Cluster, ada: Headers) -> None:
    full = (403, "Forbidden", "exceeded quota: moorage, requested: pods=1, used: pods=2, limited: pods=2")
    cluster.kubernetes.refusals = [full]
    build = make(client, ada)
    cluster.builder.run_once()
    assert answer(client, ada, build)["state"] == "succeeded"
    assert "Waiting for room." in log_of(client, ada, build)


def test_a_cancelled_build_leaves_no_pod(client: TestClient, cluster: Cluster, ada: Headers) -> None:
    cluster.kubelet.stuck = True
    build = make(client, ada)
    cluster.builder.start()
    eventually(lambda: len(cluster.kubernetes.objects()) == 1, what="its pod")
    assert client.delete(f"/api/v1/builds/{build}", headers=ada).status_code == 204
    eventually(lambda: cluster.kubernetes.objects() == [], what="its end")
    cluster.builder.stop()
    assert state(client, ada, build) == "cancelled"


def test_as_many_are_built_at_once_as_the_setting_says_and_who_recovers_spares_them(
    client: TestClient, cluster: Cluster, ada: Headers, bob: Headers
) -> None:
    cluster.kubelet.stuck = True
    running = [make(client, ada), make(client, bob, slug="trout")]
    third = make(client, ada, slug="bird")
    cluster.builder.start()
    eventually(lambda: len(cluster.kubernetes.objects()) == 2, what="two pods")
    cluster.builder.recover()
    assert [state(client, ada, build) for build in (running[0], third)] == ["building", "queued"]
    assert len(cluster.kubernetes.objects()) == 2
    cluster.builder.stop()
    assert [state(client, who, build) for who, build in zip((ada, bob), running, strict=True)] == ["queued"] * 2
    assert cluster.kubernetes.objects() == []


def test_pods_of_a_dead_service_go_and_those_of_builds_that_run_stay(cluster: Cluster, context: Context) -> None:
    labels = {"app.kubernetes.io/managed-by": "moorage", "moorage.dev/kind": "build"}
    for name in ("bu-dead-build-0a1b2c", "bu-here-build-3d4e5f"):
        metadata = {"labels": {**labels, "moorage.dev/build": name[:7]}}
        cluster.kubernetes.put(name, PLACE, metadata=metadata)
    cluster.kubernetes.put("bu-dead-of-others", PLACE, metadata={"labels": {}})
    cluster.builds.sweep(["bu-here"], cluster.builder._stopping)
    left = {each["metadata"]["name"] for each in cluster.kubernetes.objects()}
    assert left == {"bu-here-build-3d4e5f", "bu-dead-of-others"}


def test_what_a_build_could_not_remove_goes_while_others_run_on(
    client: TestClient, cluster: Cluster, context: Context, ada: Headers
) -> None:
    cluster.kubelet.stuck = True
    build = make(client, ada)
    builder = Builder(context, cluster.builds, upkeep_s=0.1)
    builder.start()
    try:
        eventually(lambda: len(cluster.kubernetes.objects()) == 1, what="its pod")
        labels = cluster.kubernetes.objects()[0]["metadata"]["labels"]
        cluster.kubernetes.put("bu-ended-build-0a1b2c", PLACE, metadata={"labels": labels})
        context.wakeup.notify()
        eventually(lambda: len(cluster.kubernetes.objects()) == 1, what="the end of what was left")
        assert state(client, ada, build) == "building"
    finally:
        builder.stop()


def test_the_place_for_builds_reaches_index_and_registry_and_nothing_of_moorage(
    client: TestClient, cluster: Cluster, base: Reference, ada: Headers
) -> None:
    make(client, ada)
    cluster.builder.run_once()
    kinds = [path.split("/")[-2] for path in cluster.kubernetes.made]
    assert kinds[:2] == ["namespaces", "rolebindings"]  # by these rights the rest is made
    assert kinds.count("rolebindings") == 1
    policies = {
        each["metadata"]["name"]: each for each in cluster.kubernetes.made.values() if each["kind"] == "NetworkPolicy"
    }
    assert set(policies) == {"deny-all", "allow-names", "allow-world", "allow-registry", "allow-more"}
    (rule,) = policies["allow-registry"]["spec"]["egress"]
    host, _, port = base.host.partition(":")
    assert rule == {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"protocol": "TCP", "port": int(port)}]}
    quota = cluster.made("/resourcequotas/moorage")
    assert quota["spec"]["hard"]["pods"] == "2"


def credentials(folder: Path, host: str, password: str) -> str:
    path = folder / "dockerconfig.json"
    path.write_text(json.dumps({"auths": {host: {"username": NAME, "password": password}}}))
    return str(path)


def test_credentials_reach_service_kubelet_and_push_and_wrong_ones_are_named(
    client: TestClient, context: Context, cluster: Cluster, tmp_path: Path, ada: Headers
) -> None:
    told = context.settings.kubernetes
    assert told is not None
    with running(tmp_path / "closed", behind_password(tmp_path / "closed")) as closed:
        known = {closed.host: Credential(NAME, PASSWORD)}
        with Connection(known, plain_http=(closed.host,)) as connection:
            push_base(Registry(connection), Reference(closed.host, "notebook", "1"))
        told.pods.image, told.registry.url = f"{closed.host}/notebook:1", closed.host
        told.registry.push_secret = told.registry.pull_secret = credentials(tmp_path, closed.host, PASSWORD)
        made = cluster.kubernetes.history
        first = make(client, ada)
        cluster.builder.run_once()
        assert answer(client, ada, first)["state"] == "succeeded", log_of(client, ada, first)
        pods = [event["object"]["spec"] for event in made() if event["type"] == "ADDED"]
        assert [pod["imagePullSecrets"] for pod in pods] == [[{"name": "moorage-pull"}]] * 2
        assert cluster.made("/secrets/moorage-pull")["type"] == "kubernetes.io/dockerconfigjson"
        told.registry.push_secret = told.registry.pull_secret = credentials(tmp_path, closed.host, "wrong")
        second = make(client, ada, "tide==2.0", "trout")
        cluster.builder.run_once()
        assert "An admin has to put good ones into its secret" in answer(client, ada, second)["error"]


def test_where_no_registry_or_namespace_is_named_a_build_says_so(
    client: TestClient, context: Context, cluster: Cluster, ada: Headers
) -> None:
    told = context.settings.kubernetes
    assert told is not None
    told.namespaces = ["team-a"]
    first = make(client, ada)
    cluster.builder.run_once()
    assert "`builds.namespace`" in answer(client, ada, first)["error"]
    told.registry.url = ""
    second = make(client, ada, slug="trout")
    cluster.builder.run_once()
    assert "`registry.url`" in answer(client, ada, second)["error"]
