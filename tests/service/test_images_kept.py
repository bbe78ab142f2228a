"""What becomes of environments' images: a new base, no use any more, a build that is at one just now."""

# ruff: noqa: F401, F811

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from fastapi.testclient import TestClient

from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_service.context import Context
from moorage_service.projects import manifests
from moorage_service.store.tables import BuildRow, EnvironmentRow, ProjectRow
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
from tests.service.test_projects_builds import make, state
from tests.waiting import eventually


def test_a_new_notebook_image_gets_the_environments_without_a_build(
    client: TestClient, context: Context, cluster: Cluster, registry: Registry, base: Reference, ada: Headers
) -> None:
    make(client, ada)
    cluster.builder.run_once()
    before = row(context)
    cluster.builds.upkeep(cluster.builder._stopping)
    assert row(context).image == before.image
    fresh = push_base(registry, base, text=b"another")
    cluster.builds.upkeep(cluster.builder._stopping)
    after = row(context)
    assert (after.base, after.digest) == (str(fresh), before.digest)
    assert after.image not in (None, before.image)
    assert cluster.kubelet.ran.count("install") == 1
    assert cluster.kubelet.ran[-1] == "describe"


def test_what_nothing_refers_to_goes_after_its_days_and_is_built_again_when_wanted(
    client: TestClient, context: Context, cluster: Cluster, registry: Registry, clock: FakeClock, ada: Headers
) -> None:
    make(client, ada)
    cluster.builder.run_once()
    old = parse(str(row(context).image))
    other = make(client, ada, "tide==2.0", "trout")
    cluster.builder.run_once()
    assert answer(client, ada, other)["state"] == "succeeded"
    with context.database.begin() as session:
        project = session.query(ProjectRow).filter_by(slug="fish").one()
        digest, project.environment = project.environment, None
    for days in (0, 1, 1):
        clock.advance(timedelta(days=days).total_seconds())
        cluster.builds.upkeep(cluster.builder._stopping)
        assert registry.digest(old) is not None
    clock.advance(timedelta(days=2).total_seconds())
    cluster.builds.upkeep(cluster.builder._stopping)
    assert registry.digest(old) is None
    with context.database.read() as session:
        kept = {each.digest: each.image for each in session.query(EnvironmentRow)}
        succeeded = session.query(BuildRow).filter_by(id=other).one().digest
    assert kept[str(digest)] is None
    assert registry.digest(parse(str(kept[str(succeeded)]))) is not None
    again = client.post("/api/v1/projects/fish/builds", headers=ada).json()["id"]
    cluster.builder.run_once()
    assert answer(client, ada, again)["state"] == "succeeded"
    assert registry.digest(old) is not None


def test_a_tag_that_moves_meanwhile_or_later_changes_neither_build_nor_notebook(
    client: TestClient, context: Context, cluster: Cluster, registry: Registry, base: Reference, ada: Headers
) -> None:
    meant = registry.image(base, "amd64").reference
    seen: list[str] = []
    run = cluster.kubelet

    async def moving(pod: dict[str, Any]) -> None:
        await asyncio.to_thread(push_base, registry, base, text=f"another {len(seen)}".encode())
        seen.extend(each["image"] for each in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]))
        await run(pod)

    cluster.kubernetes.kubelet = moving
    make(client, ada)
    cluster.builder.run_once()
    assert registry.image(base, "amd64").reference != meant
    assert seen[:3] == [str(meant)] * 3  # resolve, install, try
    made = row(context)
    assert made.base == str(meant)
    image = parse(str(made.image))
    assert (image.tag, image.digest[:7]) == ("", "sha256:")
    (tag,) = registry.tags(image)
    push_base(registry, Reference(image.host, image.repository, tag), text=b"evil")
    assert registry.image(image, "amd64").labels["moorage.environment"] == made.digest


def unreferenced(context: Context, cluster: Cluster, clock: FakeClock, *, image: bool = True) -> None:
    """All images that there are could go at the next look. `image`: whether the store knows of them."""
    with context.database.begin() as session:
        for project in session.query(ProjectRow):
            project.environment = None
    cluster.builds.upkeep(cluster.builder._stopping)
    clock.advance(timedelta(days=4).total_seconds())
    if not image:
        with context.database.begin() as session:
            for each in session.query(EnvironmentRow):
                each.image = each.base = None


def test_an_image_that_a_build_has_just_found_is_not_taken_away(
    client: TestClient, context: Context, cluster: Cluster, registry: Registry, clock: FakeClock, ada: Headers
) -> None:
    make(client, ada)
    cluster.builder.run_once()
    unreferenced(context, cluster, clock)
    said: list[str] = []
    manifest = manifests.check(context.settings, "name: Fish\npackages: [tide==1.0]\n")
    with context.database.read() as session:
        project = session.query(ProjectRow).one().id
    built = cluster.builds.build("bu-2", project, manifest, said.append, threading.Event())
    assert "is there already" in said[-1]
    cluster.builds.upkeep(cluster.builder._stopping)  # before anything of it is in the store
    image = parse(str(built.image))
    assert registry.digest(image) is not None
    assert row(context).image == built.image
    for _ in range(2):  # nobody said that it is used: it has its days anew
        clock.advance(timedelta(days=4).total_seconds())
        cluster.builds.upkeep(cluster.builder._stopping)
    assert registry.digest(image) is None


def test_nor_is_one_that_is_just_being_built(
    client: TestClient, context: Context, cluster: Cluster, registry: Registry, clock: FakeClock, ada: Headers
) -> None:
    make(client, ada)
    cluster.builder.run_once()
    image = parse(str(row(context).image))
    unreferenced(context, cluster, clock, image=False)
    run = cluster.kubelet

    async def stuck_at_the_second(pod: dict[str, Any]) -> None:
        cluster.kubelet.stuck = "-build-" in pod["metadata"]["name"]
        await run(pod)

    cluster.kubernetes.kubelet = stuck_at_the_second
    again = client.post("/api/v1/projects/fish/builds", headers=ada).json()["id"]
    with ThreadPoolExecutor(max_workers=1) as beside:
        ended = beside.submit(cluster.builder.run_once)
        eventually(lambda: cluster.kubelet.stuck, what="the pod that installs")
        cluster.builds.upkeep(cluster.builder._stopping)
        assert client.delete(f"/api/v1/builds/{again}", headers=ada).status_code == 204
        assert ended.result()
    assert registry.digest(image) is not None
