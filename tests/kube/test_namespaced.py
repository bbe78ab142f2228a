"""Moorage with no right beyond the namespaces that an admin made for it: a project is built and a notebook starts all the same."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moorage.origins import PREFIX
from moorage_images import template
from moorage_spawners.readiness import free_port
from tests.kube.namespace import RESTRICTED
from tests.kube.node import Node
from tests.kube.release import NAME, Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1800)  # the first test of a run builds images
API = f"{PREFIX}/api/v1"
USERS, BUILDS = "team-users", "team-builds"
VALUES = {
    "rbac": {"mode": "namespaced", "namespaces": [USERS]},
    "builds": {"namespace": BUILDS},
    "scheduling": {"podPriority": {"enabled": False}},
}


class TeamRelease(Release):
    namespace = "team-moorage"


@pytest.fixture(scope="module")
def release(node: Node) -> Iterator[Release]:
    """Beside the one that other modules share: it makes nothing that is the cluster's."""
    own = TeamRelease(node, free_port(), VALUES)
    node.kubectl.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}} for name in (USERS, BUILDS))
    )  # fmt: skip
    try:
        own.install()
        with own.forwarded():
            yield own
    finally:
        own.remove()
        node.kubectl("delete", "namespace", USERS, BUILDS, "--ignore-not-found", "--timeout=120s")


@pytest.fixture
def person(release: Release) -> Iterator[httpx.Client]:
    with release.admin() as browser:
        yield browser


def newest(person: httpx.Client) -> dict[str, Any]:
    """Of the notebooks."""
    found: list[dict[str, Any]] = person.get(f"{API}/notebooks?ended=true").raise_for_status().json()
    return found[0] if found else {}


def test_a_notebook_starts_where_an_admin_made_the_namespaces(release: Release, person: httpx.Client) -> None:
    account = f"--as=system:serviceaccount:{release.namespace}:{NAME}-service"
    for right in (("create", "namespaces"), ("list", "namespaces"), ("create", "pods", "-A")):
        assert release.kubectl.try_run("auth", "can-i", *right, account).stdout.strip() == "no", right

    project = f"{API}/projects/{template.STARTER_SLUG}"
    eventually(lambda: person.get(project).json()["environment"], within=900, what="a built project")
    started = person.post(f"{PREFIX}/start", data={"project": template.STARTER_SLUG, "cpu": "0.1", "memory_gib": "0.5"})
    assert started.status_code == 200, started.text
    eventually(lambda: newest(person).get("phase") == "ready", within=180, what="a notebook")
    (pod,) = release.kubectl.list("pods", USERS)
    assert pod["metadata"]["labels"]["moorage.dev/workload"] == newest(person)["id"]

    assert person.delete(f"{API}/notebooks/{newest(person)['id']}").is_success
    eventually(lambda: newest(person)["phase"] == "stopped", within=90, what="its end")
    assert release.kubectl.list("pods", USERS) == []
    assert person.get(f"{API}/check").json()["findings"] == []
