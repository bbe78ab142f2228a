"""Two services and a hub on PostgreSQL: all answer, one acts, and another does when that one dies."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moorage.origins import PREFIX
from moorage_images import template
from moorage_spawners.readiness import free_port
from tests.kube.place import ADDRESS, NODE_NAME, PODS
from tests.kube.release import Release
from tests.service.postgres import Network, find_programs, server
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1800)  # the first test of a run builds images
API = f"{PREFIX}/api/v1"
VOLUME = "shared"
ENDED = ("stopped", "failed")


@pytest.fixture(scope="module")
def replicated(release: Release) -> Iterator[Release]:
    """The release, moved to a PostgreSQL of this machine and a volume that several pods have; as it was, afterwards."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is missing")
    shared_volume(release)
    with server(programs, Network(ADDRESS, free_port(ADDRESS), PODS)) as made:
        release.upgrade(
            {
                "hub": {"db": {"type": "postgres", "url": made.database("hub")}},
                "database": {"url": made.database("service")},
                "service": {"replicas": 2, "pvc": {"existingClaim": VOLUME, "accessModes": ["ReadWriteMany"]}},
            }
        )
        try:
            yield release
        finally:
            release.upgrade()


def shared_volume(release: Release) -> None:
    """A folder of the node, as network storage would be."""
    folder = release.node.place.volumes / VOLUME
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    common: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    claim = {"metadata": {"name": VOLUME, "namespace": release.namespace}, "kind": "PersistentVolumeClaim"}
    release.kubectl.apply(
        {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": VOLUME},
            "spec": {
                **common, "capacity": {"storage": "1Gi"}, "local": {"path": str(folder)},
                "claimRef": {"name": VOLUME, "namespace": release.namespace},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        },
        {"apiVersion": "v1", **claim, "spec": {**common, "volumeName": VOLUME, "resources": {"requests": {"storage": "1Gi"}}}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def person(replicated: Release) -> Iterator[httpx.Client]:
    with replicated.admin() as browser:
        yield browser


def get(person: httpx.Client, path: str) -> Any:
    return person.get(f"{API}{path}").raise_for_status().json()


def services(release: Release) -> set[str]:
    """Names of the pods that are ready."""
    return {pod["metadata"]["name"] for pod in release.ready("service")}


def leader(release: Release) -> str:
    """Name of the pod that acts, by its own word: what it measures."""
    for name in services(release):
        said = release.kubectl(
            "exec", "-n", release.namespace, name, "-c", "service", "--", "python3", "-c",
            "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8090/services/moorage/metrics').read().decode())",
        )  # fmt: skip
        if "moorage_leading 1.0" in said:
            return name
    return ""


def test_who_is_signed_in_at_one_service_is_at_the_other(replicated: Release, person: httpx.Client) -> None:
    # An upgrade waits for one of them.
    eventually(lambda: len(services(replicated)) == 2, within=90, what="two services")
    assert {person.get(f"{API}/me").status_code for _ in range(20)} == {200}
    parts = {part["name"]: part for part in get(person, "/health")["parts"]}
    assert "postgresql" in str(parts["database"]).lower()


def test_another_service_acts_when_the_one_that_did_dies(replicated: Release, person: httpx.Client) -> None:
    eventually(
        lambda: get(person, f"/projects/{template.STARTER_SLUG}")["environment"], within=900, what="a built project"
    )
    started = person.post(f"{PREFIX}/start", data={"project": template.STARTER_SLUG, "cpu": "0.1", "memory_gib": "0.5"})
    assert started.status_code == 200, started.text
    eventually(lambda: phase(person) == "ready", within=180, what="a notebook")
    before = eventually(lambda: leader(replicated), within=60, what="one that acts")
    replicated.kubectl("delete", "pod", before, "-n", replicated.namespace, "--force", "--grace-period=0")
    assert eventually(lambda: leader(replicated), within=90, what="another that acts") != before
    assert phase(person) == "ready"
    (notebook,) = get(person, "/notebooks")
    assert person.delete(f"{API}/notebooks/{notebook['id']}").is_success
    eventually(lambda: phase(person) in ENDED, within=90, what="its end")
    eventually(lambda: len(services(replicated)) == 2, within=90, what="two services again")
    assert get(person, "/check")["findings"] == []


def phase(person: httpx.Client) -> str:
    """Of the only notebook there has been."""
    found = get(person, "/notebooks?ended=true")
    return str(found[0]["phase"]) if found else ""
