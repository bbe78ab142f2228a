"""`system:` of moorage.yaml where an admin has named a namespace for it: made once, and environments are laid on it."""

# ruff: noqa: F401, F811

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from moorage_images.oci.append import SYSTEM
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_service.context import Context
from moorage_service.store.tables import EnvironmentRow, ProjectRow
from tests.fakes.apt import FakeApt, fake_apt
from tests.fakes.clock import FakeClock
from tests.images.base_images import push_base
from tests.service.pod_builds_bench import (
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
from tests.service.test_projects_builds import state
from tests.waiting import eventually

HERE = "tide-packages"


@pytest.fixture
def apt(tmp_path: Path, context: Context, cluster: Cluster) -> FakeApt:
    """Also makes the namespace the one for packages."""
    assert context.settings.kubernetes is not None
    context.settings.kubernetes.builds.system.namespace = HERE
    made = fake_apt(tmp_path / "apt", "sl", "libgomp1")
    cluster.kubelet.apt = made.folder
    return made


def make(client: TestClient, headers: Headers, system: str, slug: str = "fish", packages: str = "tide==1.0") -> str:
    """The id of the first build."""
    manifest = f"name: Fish\npackages: [{packages}]\nsystem: [{system}]\n"
    made = client.post("/api/v1/projects", headers=headers, json={"slug": slug, "manifest": manifest})
    assert made.status_code == 201, made.text
    return str(made.json()["build"]["id"])


def rebuilt(client: TestClient, cluster: Cluster, headers: Headers, slug: str = "fish") -> str:
    """The digest of the environment."""
    build = client.post(f"/api/v1/projects/{slug}/builds", headers=headers).json()["id"]
    assert cluster.builder.run_once()
    found = answer(client, headers, build)
    assert found["state"] == "succeeded", log_of(client, headers, build)
    return str(found["digest"])


def test_the_environment_lies_on_an_image_with_the_packages(
    client: TestClient,
    context: Context,
    cluster: Cluster,
    registry: Registry,
    base: Reference,
    apt: FakeApt,
    ada: Headers,
) -> None:
    build = make(client, ada, "sl, libgomp1")
    assert cluster.builder.run_once()
    said = log_of(client, ada, build)
    assert answer(client, ada, build)["state"] == "succeeded", said
    assert "  Setting up libgomp1 (1.0) ..." in said.splitlines()
    assert cluster.kubelet.ran == ["packages", "push", "resolve", "install", "try", "push"]
    made = row(context)
    assert made.image is not None
    assert made.base is not None
    image, below = registry.image(parse(made.image), "amd64"), registry.image(parse(made.base), "amd64")
    notebook = registry.image(base, "amd64")
    assert image.layers[: len(below.layers)] == below.layers
    assert below.layers[:-1] == notebook.layers
    assert below.labels[SYSTEM] == "libgomp1 sl"
    assert cluster.kubernetes.objects() == []
    assert [path for path in cluster.kubernetes.made if "/secrets/" in path] == []


def test_the_admins_namespace_is_walled_and_nothing_of_it_is_the_services_to_make(
    client: TestClient, cluster: Cluster, apt: FakeApt, ada: Headers
) -> None:
    make(client, ada, "sl")
    cluster.builder.run_once()
    there = [
        (each["kind"], each["metadata"]["name"])
        for each in cluster.kubernetes.made.values()
        if each["metadata"].get("namespace", each["metadata"]["name"]) == HERE
    ]
    policies = {name for kind, name in there if kind == "NetworkPolicy"}
    assert policies == {"deny-all", "allow-names", "allow-world", "allow-registry", "allow-more"}
    assert {kind for kind, _ in there} == {"NetworkPolicy", "ResourceQuota"}
    places = {
        event["object"]["spec"]["initContainers"][0]["name"]: event["object"]["metadata"]["namespace"]
        for event in cluster.kubernetes.history()
        if event["type"] == "ADDED" and event["object"]["spec"]["initContainers"]
    }
    assert places == {"packages": HERE, "install": "tide-builds"}


def test_the_same_packages_on_the_same_image_are_installed_once_for_all(
    client: TestClient, context: Context, cluster: Cluster, apt: FakeApt, ada: Headers, bob: Headers
) -> None:
    make(client, ada, "sl, libgomp1")
    cluster.builder.run_once()
    other = make(client, bob, "libgomp1, sl", slug="trout", packages="tide==2.0")
    cluster.builder.run_once()
    assert "with libgomp1 sl is there already" in log_of(client, bob, other)
    third = make(client, bob, "libgomp1, sl", slug="bird")
    cluster.builder.run_once()
    assert "is there already, with exactly these versions" in log_of(client, bob, third)
    assert cluster.kubelet.ran.count("packages") == 1
    assert cluster.kubelet.ran.count("install") == 2


def test_an_environment_is_another_one_with_other_packages_below_it(
    client: TestClient, cluster: Cluster, apt: FakeApt, ada: Headers
) -> None:
    digests = set()
    for slug, system in (("fish", ""), ("trout", "sl"), ("bird", "sl, libgomp1")):
        build = make(client, ada, system, slug=slug)
        cluster.builder.run_once()
        digests.add(answer(client, ada, build)["digest"])
    assert len(digests - {None}) == 3


def test_on_a_new_notebook_image_they_are_installed_anew_at_the_next_build(
    client: TestClient,
    context: Context,
    cluster: Cluster,
    registry: Registry,
    base: Reference,
    apt: FakeApt,
    ada: Headers,
) -> None:
    make(client, ada, "sl")
    cluster.builder.run_once()
    first = row(context)
    push_base(registry, base, text=b"another")
    cluster.builds.upkeep(cluster.builder._stopping)
    assert (row(context).image, row(context).base) == (first.image, first.base)  # nobody takes its packages away
    second = rebuilt(client, cluster, ada)
    assert second != first.digest
    assert cluster.kubelet.ran.count("packages") == 2
    assert rebuilt(client, cluster, ada) == second


def test_a_name_that_apt_does_not_know_fails_the_build_in_words(
    client: TestClient, cluster: Cluster, apt: FakeApt, ada: Headers
) -> None:
    build = make(client, ada, "sl, libgommp1")
    cluster.builder.run_once()
    found = answer(client, ada, build)
    assert (found["state"], "apt has no package 'libgommp1'" in found["error"]) == ("failed", True), found
    assert found["error"] in log_of(client, ada, build)
    assert cluster.kubelet.ran == ["packages"]
    assert cluster.kubernetes.objects() == []


def test_a_namespace_that_does_not_let_root_in_is_named(
    client: TestClient, cluster: Cluster, apt: FakeApt, ada: Headers
) -> None:
    said = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    cluster.kubernetes.refusals = [(403, "Forbidden", said)]
    build = make(client, ada, "sl")
    cluster.builder.run_once()
    error = answer(client, ada, build)["error"]
    assert [piece for piece in (HERE, "`builds.system.namespace`", "`baseline`") if piece not in error] == []


def test_a_cancelled_build_leaves_no_pod_there_and_a_dead_services_goes(
    client: TestClient, cluster: Cluster, apt: FakeApt, ada: Headers
) -> None:
    labels = {"app.kubernetes.io/managed-by": "moorage", "moorage.dev/kind": "build", "moorage.dev/build": "bu-dead"}
    cluster.kubernetes.put("bu-dead-system-0a1b2c", HERE, metadata={"labels": labels})
    cluster.kubelet.stuck = True
    build = make(client, ada, "sl")
    cluster.builder.start()

    def pods() -> list[str]:
        return [each["metadata"]["name"] for each in cluster.kubernetes.objects()]

    eventually(lambda: len(pods()) == 1 and pods()[0].startswith(f"{build}-system-"), what="its pod alone")
    assert client.delete(f"/api/v1/builds/{build}", headers=ada).status_code == 204
    eventually(lambda: pods() == [], what="its end")
    cluster.builder.stop()
    assert state(client, ada, build) == "cancelled"


def test_an_image_with_packages_on_which_nothing_lies_goes_after_its_days(
    client: TestClient,
    context: Context,
    cluster: Cluster,
    registry: Registry,
    clock: FakeClock,
    apt: FakeApt,
    ada: Headers,
) -> None:
    make(client, ada, "sl")
    cluster.builder.run_once()
    used = parse(str(row(context).base))
    make(client, ada, "libgomp1", slug="trout")
    cluster.builder.run_once()
    with context.database.begin() as session:
        session.query(ProjectRow).filter_by(slug="trout").one().environment = None
        bases = {each.base for each in session.query(EnvironmentRow)}
    (unused,) = (parse(str(each)) for each in bases if str(each) != str(used))
    for days in (0, 1, 1, 1, 1):
        clock.advance(timedelta(days=days).total_seconds())
        cluster.builds.upkeep(cluster.builder._stopping)
    assert registry.digest(used) is not None
    assert registry.digest(unused) is None
    rebuilt(client, cluster, ada, "trout")
    assert cluster.kubelet.ran.count("packages") == 3
