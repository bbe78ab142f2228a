"""The starter project becomes an image, by pods on a real node: no root, no daemon, no Dockerfile; and at once the second time."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moorage.origins import PREFIX
from moorage_images import template
from moorage_images.oci.connection import Connection
from moorage_images.oci.image import own_architecture
from moorage_images.oci.reference import parse
from moorage_images.oci.registry import Registry
from tests.kube.namespace import NO_PRIVILEGES, Namespace
from tests.kube.release import NAME, Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1800)  # the first test of a run builds images
API = f"{PREFIX}/api/v1"
SOON = 900.0
BUILDS = f"{NAME}-builds"


@pytest.fixture(scope="module")
def person(release: Release) -> Iterator[httpx.Client]:
    with release.admin() as browser:
        yield browser


def ended(person: httpx.Client, build: str) -> dict[str, Any]:
    """The build, with its log as `log`."""

    def ask() -> dict[str, Any] | None:
        found: dict[str, Any] = person.get(f"{API}/builds/{build}").raise_for_status().json()
        return found if found["state"] not in ("queued", "building") else None

    return {**eventually(ask, within=SOON, what="the build's end"), "log": person.get(f"{API}/builds/{build}/log").text}


def project(person: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = person.get(f"{API}/projects/{template.STARTER_SLUG}").raise_for_status().json()
    return found


def test_the_starter_project_is_built_to_an_image_and_at_once_the_second_time(
    release: Release, person: httpx.Client, namespace: Namespace
) -> None:
    first = ended(person, project(person)["build"]["id"])
    assert first["state"] == "succeeded", first["log"]
    said = [line for line in first["log"].splitlines() if not line.startswith("  ")]
    assert said[0].startswith("Resolving ")
    assert any(line.startswith("Installing ") for line in said)
    environment = project(person)["environment"]
    assert environment["digest"] == first["digest"]
    assert environment["packages"]["ipykernel"]

    tag = f"{first['digest']}-"
    with Connection({}, plain_http=(release.node.registry,)) as connection:
        registry = Registry(connection)
        where = parse(f"{release.node.registry}/moorage/environments")
        (pushed,) = [each for each in registry.tags(where) if each.startswith(tag)]
        image = registry.image(parse(f"{where}:{pushed}"), own_architecture())
    assert image.labels["moorage.environment"] == first["digest"]
    code = "import ipykernel.kernelapp, moorage, sys; print(sys.prefix)"
    security = {**NO_PRIVILEGES, "readOnlyRootFilesystem": True}
    namespace.kubectl.apply(
        namespace.pod("kernel", ["python", "-c", code], image=str(image.reference), securityContext=security)
    )
    namespace.await_phase("kernel", "Succeeded")
    assert namespace.logs("kernel").strip() == "/opt/moorage/environment"

    again = person.post(f"{API}/projects/{template.STARTER_SLUG}/builds").raise_for_status().json()
    second = ended(person, again["id"])
    assert (second["state"], second["digest"]) == ("succeeded", first["digest"])
    assert "is there already" in second["log"]
    assert "Installing" not in second["log"]
    assert release.kubectl.list("pods", BUILDS) == []
