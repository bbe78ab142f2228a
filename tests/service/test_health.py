"""How an installation is, as its admins see it: on the page, and through the API."""

import re
import shutil
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, NamedTuple

import pytest
from fastapi.testclient import TestClient

from moorage_service.context import Context
from moorage_service.portal import words
from moorage_service.store.tables import ProjectRow, QuarantineRow
from moorage_service.walls import raise_wall
from moorage_service.watch.cluster import PROXY_PORT
from moorage_service.watch.heartbeats import LATE_S, Beat, Heartbeats
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from tests.cluster_settings import cluster_settings
from tests.fakes.hub import FakeHub
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.portal_bench import sign_in, text_of


class Usage(NamedTuple):
    """As shutil's."""

    total: int
    used: int
    free: int


class Stopped(Heartbeats):
    """As if one loop had hung, and another went round just now."""

    def all(self) -> list[Beat]:
        return [Beat("fire schedules", LATE_S + 100, 15), Beat("reconcile runs", 0.2, 1)]


@each_database
def test_the_parts_say_what_they_are_and_how_they_answer(client: TestClient, context: Context, admin: Headers) -> None:
    context.settings = context.settings.model_copy(update={"uv": sys.executable})  # some program that is there
    context.no_wall = None
    health = client.get("/api/v1/health", headers=admin).json()
    parts = {part["name"]: part for part in health["parts"]}
    assert parts["service"]["ok"]
    assert parts["database"]["ok"]
    assert parts["database"]["says"].startswith(context.database.engine.name)
    assert parts["hub"] == {**parts["hub"], "ok": True, "version": FakeHub.VERSION}
    assert parts["builder"] == {"name": "builder", "ok": True, "says": "idle", "version": None}
    assert health["disks"][0]["path"] == str(context.settings.state)


def test_whoever_is_no_admin_is_told_nothing(client: TestClient, ada: Headers) -> None:
    assert client.get("/api/v1/health", headers=ada).status_code == 403


def test_what_is_wrong_is_a_sentence_each_on_the_page(
    client: TestClient,
    context: Context,
    hub: FakeHub,
    admin: Headers,
    project: ProjectRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visitor = sign_in(client, context, admin, "root")
    with context.database.begin() as session:
        session.add(QuarantineRow(key="workloads/cl-abc", reason="its phase is unknown", since=context.clock()))
    context.heartbeats = Stopped()
    context.no_wall = "The program nft is not there. Install nftables."
    context.settings = context.settings.model_copy(update={"uv": "no-such-uv"})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(100, 96, 4))
    page = text_of(visitor.page("/admin/health"))
    for sentence in (
        "The loop that should fire schedules has made no whole pass for 130 s",
        "has 4 % left",
        "Install nftables",
        "1 record could not be read and is set aside",
        "The program 'no-such-uv' is not there",
    ):
        assert sentence in page, sentence
    assert "reconcile runs" in page


def test_a_hub_that_is_away_is_said_and_the_page_is_there(
    client: TestClient, context: Context, hub: FakeHub, admin: Headers, project: ProjectRow
) -> None:
    visitor = sign_in(client, context, admin, "root")
    hub.down = True
    page = text_of(visitor.page("/admin/health"))
    assert "The hub is in trouble: The hub does not answer." in page


def test_troubles_are_counted_beside_health_on_every_page_of_an_admin_without_asking_the_hub(
    client: TestClient, context: Context, hub: FakeHub, admin: Headers, ada: Headers, project: ProjectRow
) -> None:
    visitor = sign_in(client, context, admin, "root")
    assert "to see to" not in visitor.page("/workloads")
    context.heartbeats = Stopped()
    asked = len(hub.calls)
    page = visitor.page("/admin/limits")
    assert 'class="count" title="The loop that should fire schedules has made no whole pass' in page
    assert "Health 1 to see to" in " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert ("GET", "/hub/api/") not in hub.calls[asked:]
    assert "to see to" not in sign_in(client, context, ada, "ada").page("/workloads")


def test_names_in_a_warning_are_shown_as_code_and_nothing_else_of_it_is_markup() -> None:
    assert (
        words.with_code("Set `uv`, or <run> `make up`.") == "Set <code>uv</code>, or &lt;run&gt; <code>make up</code>."
    )
    assert words.with_code("one ` alone & <b>") == "one ` alone &amp; &lt;b&gt;"


def in_a_cluster(context: Context, told: KubernetesSettings | None, **more: str) -> None:
    changed = {"platform": "kubernetes", "kubernetes": told, "uv": "no-such-uv", **more}
    context.settings = context.settings.model_copy(update=changed)


def test_in_a_cluster_nothing_is_said_of_a_machine_and_its_means(
    client: TestClient, context: Context, admin: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_cluster(context, cluster_settings(proxy_pods="127.0.0.1"))
    context.heartbeats = Stopped()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(100, 96, 4))
    health = client.get("/api/v1/health", headers=admin).json()
    parts = {part["name"]: part for part in health["parts"]}
    assert parts["platform"]["ok"]
    assert "Kubernetes" in parts["platform"]["says"]
    assert "`moorage-...`" in parts["platform"]["says"]
    assert parts["builder"]["ok"]
    assert "`registry.example.org/environments`" in parts["builder"]["says"]
    said = f"{parts} {health['warnings']}".replace(str(context.settings.state), "")
    assert "The log of the service's pod says why" in said
    assert "enlarge its volume" in said
    for word in ("uv", "make up", "wall", "as root", "control group", "cgroup", "this machine", "service.log"):
        assert word not in said, word


@pytest.mark.parametrize(
    ("told", "part", "remedy"),
    [
        (cluster_settings(registry={"url": ""}), "builder", "Set `registry.url` in the chart's values"),
        (None, "platform", "`helm upgrade` with this release's chart"),
    ],
)
def test_in_a_cluster_what_is_missing_is_told_with_its_remedy(
    client: TestClient, context: Context, admin: Headers, told: KubernetesSettings | None, part: str, remedy: str
) -> None:
    in_a_cluster(context, told)
    health = client.get("/api/v1/health", headers=admin).json()
    found = next(each for each in health["parts"] if each["name"] == part)
    assert not found["ok"]
    assert remedy in found["says"]
    assert any(remedy.rstrip(".") in warning for warning in health["warnings"])


def test_in_a_cluster_namespaces_that_an_admin_made_are_named(
    client: TestClient, context: Context, admin: Headers
) -> None:
    in_a_cluster(context, cluster_settings(namespaces=["team-a", "team-b"], namespace_prefix=""))
    parts = client.get("/api/v1/health", headers=admin).json()["parts"]
    assert "`team-a`, `team-b`" in next(part for part in parts if part["name"] == "platform")["says"]


def test_in_a_cluster_the_proxy_is_asked_by_the_name_of_its_pods(
    client: TestClient, context: Context, admin: Headers
) -> None:
    in_a_cluster(context, cluster_settings(proxy_pods="127.0.0.2"), public_url="https://moorage.example.org")
    with socketserver.TCPServer(("127.0.0.2", PROXY_PORT), Proxy) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        health = client.get("/api/v1/health", headers={**admin, "Host": "moorage.example.org"}).json()
    proxy = next(part for part in health["parts"] if part["name"] == "proxy")
    assert proxy["ok"], proxy
    assert Proxy.asked == ["/hub/health for moorage.example.org"]


class Proxy(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} for {self.headers['Host']}")
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the library's
        """Nothing to the terminal."""


def test_in_a_cluster_no_wall_is_raised(context: Context) -> None:
    """Nor taken down: its pods share no machine with users, and may write no rules."""
    in_a_cluster(context, cluster_settings())
    before = context.no_wall
    raise_wall(context)
    assert context.no_wall == before
