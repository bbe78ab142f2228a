"""A hub that somebody runs already joins: its users get the portal and projects' notebooks, and keep what they had."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from moorage.origins import PREFIX
from moorage_spawners.readiness import free_port
from tests.kube.node import Node
from tests.kube.their_hub import PASSWORD, Joined
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)
API = f"{PREFIX}/api/v1"
SOON = 180.0
PROJECT = "tide"


@dataclass
class Person:
    """Signed in at that hub, in a browser of their own."""

    name: str
    browser: httpx.Client

    def ask(self, method: str, path: str, **content: Any) -> Any:
        """The service's API, with the portal's session."""
        answer = self.browser.request(method, f"{API}{path}", **content)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.text else None

    def hub(self, method: str, path: str, **content: Any) -> httpx.Response:
        """The hub's API, with the hub's session."""
        token = next(each.value for each in self.browser.cookies.jar if each.name == "_xsrf" and each.path == "/hub/")
        headers = {"X-XSRFToken": str(token), "Referer": f"{self.browser.base_url}hub/home"}
        return self.browser.request(method, f"/hub/api{path}", headers=headers, **content)

    def servers(self) -> dict[str, Any]:
        found: dict[str, Any] = self.hub("GET", f"/users/{self.name}").raise_for_status().json()["servers"]
        return found

    def until_ready(self, server: str) -> None:
        eventually(lambda: self.servers().get(server, {}).get("ready"), within=SOON, what=f"the server {server!r}")

    def opens(self, server: str = "") -> bool:
        """Whether JupyterLab lets its owner in, by the hub's sign-in."""
        answer = self.browser.get(f"/user/{self.name}/{server}{'/' if server else ''}lab")
        return answer.is_success and "jupyter-config-data" in answer.text

    def notebook(self) -> Any:
        return next(iter(self.ask("GET", "/notebooks")), None)


@contextmanager
def signed_in(joined: Joined, name: str) -> Iterator[Person]:
    with joined.browser() as browser:
        page = browser.get("/hub/login")
        form = {"username": name, "password": PASSWORD, "_xsrf": browser.cookies.get("_xsrf", path="/hub/")}
        assert page.is_success
        assert str(browser.post("/hub/login", data=form).url).startswith(joined.url)
        assert browser.get("/hub/home").is_success
        assert "Start a notebook" in browser.get(f"{PREFIX}/").text
        browser.headers["Origin"] = joined.url
        yield Person(name, browser)


@pytest.fixture(scope="module")
def joined(node: Node) -> Iterator[Joined]:
    own = Joined(node, free_port(), Joined.VALUES)
    try:
        own.install()
        with own.forwarded():
            yield own
    finally:
        own.remove()


@pytest.fixture(scope="module")
def people(joined: Joined) -> Iterator[tuple[Person, Person]]:
    """A user, and an admin of that hub."""
    with ExitStack() as stack:
        yield stack.enter_context(signed_in(joined, "ada")), stack.enter_context(signed_in(joined, "boss"))


def test_who_is_signed_in_at_their_hub_is_at_the_portal(people: tuple[Person, Person]) -> None:
    ada, _ = people
    told = [each.ask("GET", "/me")["user"] for each in people]
    assert [(each["name"], each["admin"]) for each in told] == [("ada", False), ("boss", True)]
    assert f"{PREFIX}/" in ada.browser.get("/hub/home").text  # among the hub's services


def test_their_own_servers_start_as_before(people: tuple[Person, Person], joined: Joined) -> None:
    ada, _ = people
    assert "Large" in ada.browser.get("/hub/spawn").text
    assert ada.hub("POST", "/users/ada/server", json={"profile": "large"}).status_code in (201, 202)
    ada.until_ready("")
    assert ada.opens()
    (pod,) = joined.pods_of("component=singleuser-server")
    assert pod["metadata"]["namespace"] == joined.namespace
    variables = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    assert variables["WHOSE"] == "large"


def test_a_projects_notebook_starts_by_their_hub_in_a_namespace_of_ours(
    people: tuple[Person, Person], joined: Joined
) -> None:
    ada, boss = people
    ada.ask("POST", "/projects", json={"slug": PROJECT, "manifest": "name: Tide\npackages: []\n"})
    eventually(lambda: is_built(ada), within=600, what="the environment")
    limit = {"scope": "user", "name": "ada", "resource": "notebooks", "amount": 0}
    rule = boss.ask("POST", "/limits", json=limit)["id"]
    refused = ada.browser.post(f"{API}/projects/{PROJECT}/notebook", json={"cpu": 0.1, "memory": 512 << 20})
    assert "ada may hold at most 0 notebooks at once" in refused.json()["message"]
    boss.ask("DELETE", f"/limits/{rule}")
    form = {"project": PROJECT, "cpu": "0.1", "memory_gib": "0.5"}
    ada.browser.post(f"{PREFIX}/start", data=form).raise_for_status()
    ada.until_ready(PROJECT)
    assert ada.opens(PROJECT)
    eventually(lambda: ada.notebook()["phase"] == "ready", within=SOON, what="the notebook at the portal")
    (pod,) = joined.pods_of(f"moorage.dev/workload={ada.notebook()['id']}")
    assert pod["metadata"]["namespace"].startswith("beside-moorage-")
    variables = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    assert variables["JUPYTERHUB_API_URL"] == f"http://hub.{joined.namespace}:8081/hub/api"
    assert "WHOSE" not in variables


def is_built(person: Person) -> bool:
    found = person.ask("GET", f"/projects/{PROJECT}")
    assert found["build"]["state"] != "failed", found["build"]
    return found["environment"] is not None


def test_the_ledger_agrees_with_the_cluster_and_their_parts_are_seen(people: tuple[Person, Person]) -> None:
    _, boss = people
    assert boss.ask("GET", "/check")["findings"] == []
    parts = {each["name"]: each for each in boss.ask("GET", "/health")["parts"]}
    assert (parts["hub"]["ok"], parts["proxy"]["ok"]) == (True, True), parts


def test_a_stopped_notebook_leaves_their_server_alone(people: tuple[Person, Person], joined: Joined) -> None:
    ada, _ = people
    notebook = ada.notebook()["id"]
    ada.ask("DELETE", f"/notebooks/{notebook}")
    eventually(lambda: ada.notebook() is None, within=SOON, what="the end of the notebook")
    eventually(lambda: PROJECT not in ada.servers(), within=SOON, what="the hub's word of it")
    ours = f"moorage.dev/workload={notebook}"
    eventually(lambda: not joined.pods_of(ours), within=SOON, what="no pod of the notebook")
    assert ada.opens()
    assert ada.hub("DELETE", "/users/ada/server").status_code in (202, 204)
    eventually(lambda: not joined.pods_of("component=singleuser-server"), within=SOON, what="the end of their server")


def test_an_admin_of_the_portal_signs_a_user_out_of_their_hub(people: tuple[Person, Person]) -> None:
    ada, boss = people
    boss.ask("POST", "/users/ada/sign-out", json={})
    assert ada.browser.get("/hub/home").url.path == "/hub/login"
    assert boss.ask("GET", "/check")["findings"] == []
