"""A pool of GPUs of two types, one of each, through the product: offered, limited by type, placed by type, refused in words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from moorage.origins import PREFIX
from tests.kube import gpus
from tests.kube.kubectl import Object
from tests.kube.release import Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)
API = f"{PREFIX}/api/v1"
SOON = 120.0
PROJECTS = ("gpu-one", "gpu-two", "gpu-three")
SMALL = {"cpu": 0.1, "memory": 512 << 20}
LIMITS = {"gpu:a100": 1, "gpu:h200": 2}


@dataclass
class Person:
    """An admin at the portal; what they start is small."""

    release: Release
    browser: httpx.Client
    name: str

    def ask(self, method: str, path: str, **content: Any) -> Any:
        answer = self.browser.request(method, f"{API}{path}", **content).raise_for_status()
        return answer.json() if answer.text else None

    def refused(self, project: str, **size: Any) -> str:
        """The sentence with which a start is refused at once."""
        answer = self.browser.post(f"{API}/projects/{project}/notebook", json={**SMALL, **size})
        assert answer.is_client_error, answer.text
        return str(answer.json()["message"])

    def start(self, project: str, gpu_type: str) -> None:
        """By the form of the start page."""
        form = {"project": project, "cpu": "0.1", "memory_gib": "0.5", "gpu": "1", "gpu_type": gpu_type}
        self.browser.post(f"{PREFIX}/start", data=form).raise_for_status()

    def progress(self, project: str) -> str:
        return self.browser.get(f"{PREFIX}/start/{project}").raise_for_status().text

    def notebook(self, project: str) -> Any:
        return next((each for each in self.ask("GET", "/notebooks") if each["project"] == project), None)

    def until(self, project: str, phase: str) -> Any:
        def ask() -> Any:
            found = self.notebook(project)
            return found if found is not None and found["phase"] == phase else None

        return eventually(ask, within=SOON, what=f"phase {phase} of {project}")

    def pod(self, project: str) -> Object | None:
        """As it is in the cluster."""
        found = self.notebook(project)
        if found is None:
            return None
        said = self.release.kubectl.list_all("pods", f"moorage.dev/workload={found['id']}")
        return said[0] if said else None

    def stop(self) -> None:
        for each in self.ask("GET", "/notebooks"):
            self.ask("DELETE", f"/notebooks/{each['id']}")
        eventually(lambda: self.ask("GET", "/notebooks") == [], within=SOON, what="no notebook")


@pytest.fixture(scope="module")
def person(release: Release) -> Iterator[Person]:
    """With three projects of one environment, limits by type, and a pool."""
    with release.browser() as browser:
        assert browser.get(release.link()).status_code == 200
        assert browser.get(f"{PREFIX}/").status_code == 200
        browser.headers["Origin"] = release.url
        own = Person(release, browser, browser.get(f"{API}/me").json()["user"]["name"])
        limits = []
        try:
            for slug in PROJECTS:
                own.ask("POST", "/projects", json={"slug": slug, "manifest": "name: GPUs\npackages: []\n"})
                eventually(lambda slug=slug: built(own, slug), within=600, what=f"the environment of {slug}")  # type: ignore[misc]
            for resource, amount in LIMITS.items():
                limit = {"scope": "user", "name": own.name, "sharing": "each", "resource": resource, "amount": amount}
                limits.append(own.ask("POST", "/limits", json=limit)["id"])
            with gpus.pool(release.kubectl):
                yield own
                own.stop()
        finally:
            own.stop()
            for limit in limits:
                own.ask("DELETE", f"/limits/{limit}")
            for slug in PROJECTS:
                own.ask("DELETE", f"/projects/{slug}")


def built(person: Person, slug: str) -> bool:
    found = person.ask("GET", f"/projects/{slug}")
    assert found["build"]["state"] != "failed", found["build"]
    return found["environment"] is not None


def placed(person: Person, project: str, kind: str, node: str) -> Object:
    """The pod of a notebook with one GPU of this type, found at this node, with all that leads it there."""
    pod = eventually(lambda: bound(person, project), within=SOON, what=f"a node for the pod of {project}")
    (server,) = pod["spec"]["containers"]
    assert server["resources"]["requests"][gpus.RESOURCE] == server["resources"]["limits"][gpus.RESOURCE] == "1"
    assert pod["spec"]["nodeSelector"] == gpus.TYPES[kind]["nodeLabels"]
    assert gpus.BORNE in pod["spec"]["tolerations"]
    assert pod["spec"]["nodeName"] == node
    return pod


def bound(person: Person, project: str) -> Object | None:
    pod = person.pod(project)
    return pod if pod is not None and pod["spec"].get("nodeName") else None


def test_the_start_page_offers_both_types(person: Person) -> None:
    page = person.browser.get(f"{PREFIX}/").text
    choice = page.partition('name="gpu_type"')[2].partition("</select>")[0]
    assert re.findall(r"<option[^>]*>([^<]+)", choice) == ["a100", "h200"]  # of any type none is lent: limits go by type


def test_a_notebook_with_a_gpu_runs_at_a_node_of_its_type(person: Person) -> None:
    person.start("gpu-one", "a100")
    placed(person, "gpu-one", "a100", person.release.node.name)
    person.until("gpu-one", "ready")


def test_a_limit_by_type_refuses_the_second_and_lets_the_other_type_go(person: Person) -> None:
    refused = person.refused("gpu-two", gpu=1, gpu_type="a100")
    assert refused.startswith(f"Refused by the limit that {person.name} may hold at most 1 gpu:a100 at once")
    assert "notebook gpu-one (1 gpu:a100)" in refused
    person.start("gpu-two", "h200")
    placed(person, "gpu-two", "h200", gpus.SECOND_NODE)


def test_a_gpu_of_no_type_is_refused_where_limits_go_by_type(person: Person) -> None:
    assert person.refused("gpu-three", gpu=1) == (
        "gpu_type: which type of GPU? There are limits by type here, so choose one of a100, h200."
    )


def test_an_unknown_type_is_refused_with_those_there_are(person: Person) -> None:
    refused = person.refused("gpu-three", gpu=1, gpu_type="b300")
    assert refused.endswith("The GPU types here: a100, h200. Ask for one of them.")


def test_a_type_of_which_none_is_free_is_told_on_the_progress_page(person: Person) -> None:
    person.start("gpu-three", "h200")
    none = "No machine has a free GPU of type h200."
    page = eventually(
        lambda: page if none in (page := person.progress("gpu-three")) else None, within=SOON, what="the reason"
    )
    assert "free memory" not in page
    assert person.notebook("gpu-three")["reason"].startswith(none)


def test_the_quota_of_the_namespace_is_what_both_types_may_be_together(person: Person) -> None:
    pod = person.pod("gpu-one")
    assert pod is not None
    quota = person.release.kubectl.get("resourcequota", "moorage", pod["metadata"]["namespace"])
    assert quota is not None
    resource = f"requests.{gpus.RESOURCE}"
    assert (quota["status"]["hard"][resource], quota["status"]["used"][resource]) == ("3", "3")


def test_ledger_and_cluster_agree_and_nothing_is_left(person: Person) -> None:
    assert person.ask("GET", "/check")["findings"] == []
    person.stop()
    assert person.ask("GET", "/check")["findings"] == []
