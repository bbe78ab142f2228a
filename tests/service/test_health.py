"""How an installation is, as its admins see it: on the page, and through the API."""

import re
import shutil
import sys
from typing import NamedTuple

import pytest
from fastapi.testclient import TestClient

from moorage_service.context import Context
from moorage_service.portal import words
from moorage_service.store.tables import ProjectRow, QuarantineRow
from moorage_service.watch.heartbeats import LATE_S, Beat, Heartbeats
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
