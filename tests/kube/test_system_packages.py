"""Debian packages of a project on a real node: refused where no admin enabled them, else installed by a real apt, once."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moorage.origins import PREFIX
from moorage_images.oci.connection import Connection
from moorage_images.oci.reference import parse
from moorage_images.oci.registry import Registry
from tests.kube.kubectl import KubectlRefused
from tests.kube.namespace import NO_PRIVILEGES, Namespace
from tests.kube.release import NAME, Release
from tests.kube.test_builds import API, ended
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)  # the first test of a run builds images
PACKAGES = "moorage-packages"  # the admin's namespace
BASELINE = {"pod-security.kubernetes.io/enforce": "baseline"}
PROGRAM = "hello"  # of the package of that name: 53 kB, and it says so


@pytest.fixture(scope="module")
def person(release: Release) -> Iterator[httpx.Client]:
    with release.browser() as browser:
        assert browser.get(release.link()).status_code == 200
        assert browser.get(f"{PREFIX}/").status_code == 200
        browser.headers["Origin"] = release.url
        yield browser


@pytest.fixture(scope="module")
def enabled(release: Release, person: httpx.Client) -> Iterator[None]:
    """As an admin does it, and undone after these tests."""
    metadata = {"name": PACKAGES, "labels": BASELINE}
    release.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    builds = release.chart_values()["builds"]
    try:
        release.upgrade({"builds": {**builds, "system": {"namespace": PACKAGES}}})
        eventually(lambda: person.get(f"{API}/projects").is_success, within=60, what="an answer of the new service")
        yield
    finally:
        release.upgrade()
        release.kubectl("delete", "namespace", PACKAGES, "--wait=false")


def send(person: httpx.Client, slug: str, system: str) -> httpx.Response:
    manifest = f"name: {slug}\nsystem: [{system}]\n"
    return person.post(f"{API}/projects", json={"slug": slug, "manifest": manifest})


def test_without_a_namespace_a_project_is_refused_before_anything_is_kept(person: httpx.Client) -> None:
    answer = send(person, "unpacked", PROGRAM)
    said = answer.json()
    assert (answer.status_code, said["code"]) == (409, "no_system_builder")
    assert "`builds.system.namespace`" in said["message"]
    assert person.get(f"{API}/projects/unpacked").status_code == 404


@pytest.fixture(scope="module")
def built(person: httpx.Client, enabled: None) -> dict[str, Any]:
    made = send(person, "packed", PROGRAM).raise_for_status().json()
    found = ended(person, made["build"]["id"])
    assert found["state"] == "succeeded", found["log"]
    return found


def test_a_notebooks_pod_has_the_program(release: Release, built: dict[str, Any], namespace: Namespace) -> None:
    assert f"Setting up {PROGRAM}" in built["log"]
    repository = f"{release.node.registry}/moorage/environments"
    with Connection({}, plain_http=(release.node.registry,)) as connection:
        registry = Registry(connection)
        (tag,) = [each for each in registry.tags(parse(repository)) if each.startswith(f"{built['digest']}-")]
        image = parse(repository).at(str(registry.digest(parse(f"{repository}:{tag}"))))
    code = f"{PROGRAM} && python -c 'import ipykernel, moorage, sys; print(sys.prefix)'; id -u"
    security = {**NO_PRIVILEGES, "readOnlyRootFilesystem": True}
    namespace.kubectl.apply(namespace.pod("notebook", ["sh", "-c", code], image=str(image), securityContext=security))
    namespace.await_phase("notebook", "Succeeded")
    assert namespace.logs("notebook").splitlines() == ["Hello, world!", "/opt/moorage/environment", "1000"]
    assert release.kubectl.list("pods", PACKAGES) == []
    assert release.kubectl.list("secrets", PACKAGES) == []


def test_the_same_packages_are_not_installed_twice(person: httpx.Client, built: dict[str, Any]) -> None:
    again = person.post(f"{API}/projects/packed/builds").raise_for_status().json()
    second = ended(person, again["id"])
    assert (second["state"], second["digest"]) == ("succeeded", built["digest"]), second["log"]
    assert f"with {PROGRAM} is there already" in second["log"]
    assert "Setting up" not in second["log"]


def test_a_bad_name_is_told_in_words(person: httpx.Client, built: dict[str, Any]) -> None:
    made = send(person, "misspelt", f"{PROGRAM}, no-such-package").raise_for_status().json()
    found = ended(person, made["build"]["id"])
    assert found["state"] == "failed"
    assert "apt has no package 'no-such-package'" in found["error"]


def test_the_service_may_not_read_secrets_there_nor_the_hub_anything(release: Release, enabled: None) -> None:
    def may(part: str, *what: str) -> bool:
        account = f"--as=system:serviceaccount:{release.namespace}:{NAME}-{part}"
        try:
            return release.kubectl("auth", "can-i", *what, "-n", PACKAGES, account).strip() == "yes"
        except KubectlRefused:  # how it says no
            return False

    assert may("service", "create", "pods")
    assert not may("service", "get", "secrets")
    assert not may("service", "create", "pods/exec")
    assert not may("hub", "create", "pods")
