"""Builds through the API and the thread that carries them out. uv and the processes are real; the index is a small one."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from moorage_images import environments, template
from moorage_images.build import MACHINE_LOCK
from moorage_service.context import Context
from moorage_service.projects import archive
from moorage_service.projects import builder as builder_module
from moorage_service.projects.builder import Builder
from moorage_service.projects.seed import seed_starter
from moorage_service.reconciler.fence import OutdatedError
from moorage_service.settings import Inventory, Settings
from moorage_service.store.tables import BuildRow, EnvironmentRow, ProjectRow
from tests.fakes.package_index import PackageIndex, client_wheel
from tests.images.places import find_uv, open_python
from tests.nesting import nesting
from tests.waiting import eventually

Headers = dict[str, str]


@pytest.fixture
def settings(open_folder: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in index.variables.items():
        monkeypatch.setenv(name, value)
    state = open_folder / "state"
    state.mkdir()
    return Settings(
        state=state, inventory=Inventory(cpu=8, memory=32 << 30, gpus={}), reconcile_s=0.05, hub_token_cache_s=0,
        uv=str(find_uv()), python_versions={"3.11": str(open_python())}, client_wheel=client_wheel(open_folder / "client"),
        builder_uid_first=65800,
    )  # fmt: skip


@pytest.fixture
def builder(context: Context) -> Builder:
    return Builder(context)


def make(client: TestClient, headers: Headers, packages: str = "tide==1.0", slug: str = "fish") -> str:
    """The id of the first build."""
    manifest = f"name: Fish\npackages: [{packages}]\n"
    answer = client.post("/api/v1/projects", headers=headers, json={"slug": slug, "manifest": manifest})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["build"]["id"])


def state(client: TestClient, headers: Headers, build: str) -> str:
    return str(client.get(f"/api/v1/builds/{build}", headers=headers).json()["state"])


def test_a_build_becomes_the_projects_environment(
    client: TestClient, context: Context, builder: Builder, ada: Headers
) -> None:
    build = make(client, ada)
    assert builder.run_once()
    assert not builder.run_once()
    answer = client.get(f"/api/v1/builds/{build}", headers=ada).json()
    assert (answer["state"], answer["error"]) == ("succeeded", None)
    environment = client.get("/api/v1/projects/fish", headers=ada).json()["environment"]
    assert environment["digest"] == answer["digest"]
    assert environment["packages"]["tide"] == "1.0"
    assert environments.read(context.settings.state / "environments", answer["digest"]) is not None


def test_its_log_is_read_piece_by_piece(client: TestClient, builder: Builder, ada: Headers) -> None:
    build = make(client, ada)
    assert client.get(f"/api/v1/builds/{build}/log", headers=ada).content == b""
    builder.run_once()
    whole = client.get(f"/api/v1/builds/{build}/log", headers=ada)
    assert whole.headers["content-type"].startswith("text/plain")
    assert "Resolving 3 requirements" in whole.text  # after a line of waiting, if other tests build beside this one
    assert "is ready: Python" in whole.text
    rest = client.get(f"/api/v1/builds/{build}/log", headers=ada, params={"offset": 10})
    assert rest.content == whole.content[10:]
    end = client.get(f"/api/v1/builds/{build}/log", headers=ada, params={"last": 10})
    assert end.content == whole.content[-10:]
    assert client.get(f"/api/v1/builds/{build}/log", headers=ada, params={"offset": -1}).status_code == 422


def test_a_failed_build_leaves_the_last_good_one(client: TestClient, builder: Builder, ada: Headers) -> None:
    make(client, ada)
    builder.run_once()
    good = client.get("/api/v1/projects/fish", headers=ada).json()["environment"]
    text = "name: Fish\npackages: [tide==9.0]\n"
    assert client.put("/api/v1/projects/fish/manifest", headers=ada, content=text).status_code == 204
    build = client.post("/api/v1/projects/fish/builds", headers=ada).json()["id"]
    builder.run_once()
    answer = client.get("/api/v1/projects/fish", headers=ada).json()
    assert (answer["build"]["id"], answer["build"]["state"]) == (build, "failed")
    assert "tide==9.0" in answer["build"]["error"]
    assert answer["environment"] == good
    assert [one["state"] for one in client.get("/api/v1/projects/fish/builds", headers=ada).json()] == [
        "failed",
        "succeeded",
    ]


def test_the_same_text_is_not_queued_twice(client: TestClient, ada: Headers) -> None:
    build = make(client, ada)
    assert client.post("/api/v1/projects/fish/builds", headers=ada).json()["id"] == build


def test_a_waiting_build_is_cancelled(client: TestClient, builder: Builder, ada: Headers) -> None:
    build = make(client, ada)
    assert client.delete(f"/api/v1/builds/{build}", headers=ada).status_code == 204
    assert state(client, ada, build) == "cancelled"
    assert not builder.run_once()


def slow(index: PackageIndex) -> None:
    index.source("brine", "1.0", "import time; time.sleep(600)")


def begun(client: TestClient, headers: Headers, build: str) -> None:
    def log() -> bool:
        return b"Building brine" in client.get(f"/api/v1/builds/{build}/log", headers=headers).content

    eventually(log, what="the package's build")


def test_a_running_build_is_cancelled_and_the_next_one_built(
    client: TestClient, builder: Builder, index: PackageIndex, ada: Headers
) -> None:
    """All that asker and builder share is the store: they may be different services."""
    slow(index)
    build = make(client, ada, "brine")
    builder.start()
    begun(client, ada, build)
    assert client.delete(f"/api/v1/builds/{build}", headers=ada).status_code == 204
    assert state(client, ada, build) == "cancelled"
    following = make(client, ada, slug="bird")
    eventually(lambda: state(client, ada, following) == "succeeded", within=120, what="the next build")
    assert state(client, ada, build) == "cancelled"
    builder.stop()


def test_a_service_that_stops_builds_again_at_its_next_start(
    client: TestClient, context: Context, builder: Builder, index: PackageIndex, ada: Headers
) -> None:
    slow(index)
    build = make(client, ada, "brine")
    builder.start()
    begun(client, ada, build)
    builder.stop()
    assert state(client, ada, build) == "queued"


def half_built(client: TestClient, context: Context, headers: Headers) -> tuple[str, Path]:
    """The id of a build that somebody is at, and its tree."""
    build = make(client, headers)
    with context.database.begin() as session:
        session.get_one(BuildRow, build).state = "building"
    half = context.settings.environments / ("0" * 40)
    half.mkdir()
    return build, half


def test_what_a_killed_service_was_building_is_failed_with_a_sentence(
    client: TestClient, context: Context, builder: Builder, ada: Headers
) -> None:
    build, half = half_built(client, context, ada)
    scratch = context.settings.state / "scratch" / "build-0123"
    scratch.mkdir(parents=True)
    with nesting() as nest:
        nest(half)
        nest(scratch)
        builder.recover()
        assert not half.exists()
        assert not scratch.exists()
    answer = client.get(f"/api/v1/builds/{build}", headers=ada).json()
    assert answer["state"] == "failed"
    assert "Build again" in answer["error"]


def test_a_build_whose_end_could_not_be_recorded_is_failed_and_the_next_one_built(
    client: TestClient, context: Context, builder: Builder, ada: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store was away for that moment; this service goes on, in the same term."""
    away = iter([True])
    succeed = Builder._succeed

    def fails(self: Builder, *given: Any) -> None:
        if next(away, False):
            raise OperationalError("UPDATE builds", {}, Exception("the server closed the connection"))
        succeed(self, *given)

    monkeypatch.setattr(Builder, "_succeed", fails)
    monkeypatch.setattr(builder_module, "PAUSE_S", 0.05)
    build = make(client, ada)
    builder.start()
    eventually(lambda: state(client, ada, build) == "failed", within=120, what="its end")
    assert "could not be recorded. Build again" in client.get(f"/api/v1/builds/{build}", headers=ada).json()["error"]
    again = client.post("/api/v1/projects/fish/builds", headers=ada).json()["id"]
    eventually(lambda: state(client, ada, again) == "succeeded", within=120, what="the next build")
    builder.stop()


def test_who_acts_no_more_fails_and_sweeps_nothing_of_who_does(
    client: TestClient, context: Context, builder: Builder, ada: Headers
) -> None:
    build, half = half_built(client, context, ada)
    context.leadership.start()
    context.leadership.stop()
    with pytest.raises(OutdatedError):
        builder.recover()
    assert state(client, ada, build) == "building"
    assert half.exists()


def test_what_an_older_terms_builder_goes_on_with_is_not_swept(context: Context, builder: Builder) -> None:
    root = context.settings.environments
    half = root / ("0" * 40)
    half.mkdir()
    with (MACHINE_LOCK if os.geteuid() == 0 else root / ".building").open("a") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        builder._stopping.set()  # or else it waits
        builder.recover()
        assert half.exists()
    builder._stopping.clear()
    builder.recover()
    assert not half.exists()


def test_two_projects_with_the_same_packages_share_one_environment(
    client: TestClient, context: Context, builder: Builder, ada: Headers, bob: Headers
) -> None:
    make(client, ada)
    make(client, bob, slug="trout")
    assert builder.run_once()
    assert builder.run_once()
    with context.database.read() as session:
        assert session.query(EnvironmentRow).count() == 1


def test_a_service_without_uv_says_so(
    client: TestClient, context: Context, ada: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.settings.uv = "/nowhere/uv"
    build = make(client, ada)
    Builder(context).run_once()
    assert "/nowhere/uv" in client.get(f"/api/v1/builds/{build}", headers=ada).json()["error"]


def test_the_starter_is_made_once_and_is_everybodys(client: TestClient, context: Context, ada: Headers) -> None:
    seed_starter(context)
    seed_starter(context)
    (project,) = client.get("/api/v1/projects", headers=ada).json()
    assert (project["slug"], project["role"], project["build"]["state"]) == (template.STARTER_SLUG, "editor", "queued")
    with context.database.read() as session:
        row = session.query(ProjectRow).one()
        assert archive.read(context.settings, row.files) == template.contents()
        assert os.stat(archive.path_of(context.settings, row.files or "")).st_mode & 0o077 == 0
