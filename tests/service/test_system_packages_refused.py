"""`system:` of moorage.yaml where no admin has named a namespace for it: told at every door, before anything is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from moorage_service.context import Context
from moorage_service.settings import Inventory, Rates, Settings
from moorage_service.store.tables import BuildRow, ProjectRow
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from tests.archives import tar_of
from tests.fakes.kubernetes import FakeKubernetes
from tests.service.portal_bench import Visitor, sign_in, text_of

Headers = dict[str, str]
PLAIN, WANTING = "name: Fish\n", "name: Fish\nsystem: [libgomp1, sl]\n"
SAYS = ("system:", "libgomp1, sl", "ask an admin", "`builds.system.namespace`")


@pytest.fixture
def settings(tmp_path: Path, kubernetes: FakeKubernetes) -> Settings:
    told = KubernetesSettings.model_validate(
        {
            "release": "tide", "namespace": "tide-system", "managed_by": "tide-system.tide", "namespace_prefix": "tide",
            "hub_account": "tide-hub", "service_account": "tide-service", "pods": {"image": "registry.example.org/notebook:1"},
            "homes": {"capacity": "1Gi", "mount_path": "/home/jovyan"}, "network_policy": {}, "registry": {},
            "builds": {"image": "registry.example.org/service:1"},
        }
    )  # fmt: skip
    return Settings(
        state=tmp_path / "state", inventory=Inventory(cpu=8, memory=32 << 30, gpus={}), hub_token_cache_s=0, seed_starter=False,
        rates=Rates(enabled=False), kubernetes=told,
    )  # fmt: skip


def make(client: TestClient, headers: Headers, manifest: str) -> Any:
    return client.post("/api/v1/projects", headers=headers, json={"slug": "fish", "manifest": manifest})


def send_manifest(client: TestClient, headers: Headers) -> Any:
    return client.put("/api/v1/projects/fish/manifest", headers=headers, content=WANTING)


def send_files(client: TestClient, headers: Headers) -> Any:
    content = tar_of({"moorage.yaml": WANTING.encode(), "notes.txt": b"new"})
    return client.put("/api/v1/projects/fish/files", headers=headers, content=content)


def build(client: TestClient, headers: Headers) -> Any:
    return client.post("/api/v1/projects/fish/builds", headers=headers)


def refused(answer: Any) -> None:
    said = answer.json()
    assert (answer.status_code, said["code"], said["field"]) == (409, "no_system_builder", "system")
    assert [piece for piece in SAYS if piece not in said["message"]] == []


def kept(context: Context) -> tuple[int, int]:
    """How many projects and builds there are."""
    with context.database.read() as session:
        projects, builds = (
            session.scalars(select(func.count()).select_from(table)).one() for table in (ProjectRow, BuildRow)
        )
    return projects, builds


def enable(context: Context, namespace: str) -> None:
    assert context.settings.kubernetes is not None
    context.settings.kubernetes.builds.system.namespace = namespace


def test_a_new_project_is_refused_and_nothing_of_it_is_kept(client: TestClient, context: Context, ada: Headers) -> None:
    refused(make(client, ada, WANTING))
    assert kept(context) == (0, 0)
    assert make(client, ada, PLAIN).status_code == 201  # its name is still free


@pytest.mark.parametrize("send", [send_manifest, send_files])
def test_an_update_is_refused_and_the_project_stays_as_it_was(
    client: TestClient, context: Context, ada: Headers, send: Callable[[TestClient, Headers], Any]
) -> None:
    make(client, ada, PLAIN)
    files = client.get("/api/v1/projects/fish/files", headers=ada).content
    refused(send(client, ada))
    assert client.get("/api/v1/projects/fish", headers=ada).json()["manifest"] == PLAIN
    assert client.get("/api/v1/projects/fish/files", headers=ada).content == files
    assert kept(context) == (1, 1)


def test_once_an_admin_takes_the_namespace_away_no_build_is_queued(
    client: TestClient, context: Context, ada: Headers
) -> None:
    enable(context, "tide-packages")
    assert make(client, ada, WANTING).status_code == 201
    assert send_manifest(client, ada).status_code == 204
    assert send_files(client, ada).status_code == 204
    enable(context, "")
    refused(build(client, ada))
    assert kept(context) == (1, 1)
    assert client.get("/api/v1/projects/fish", headers=ada).status_code == 200


def test_many_packages_are_counted(client: TestClient, ada: Headers) -> None:
    names = [f"lib{number:02}" for number in range(12)]
    said = make(client, ada, f"name: Fish\nsystem: [{', '.join(names)}]\n").json()["message"]
    assert "(lib00, lib01, lib02, lib03, lib04 and 7 more)" in said


@pytest.fixture
def ada_at(client: TestClient, context: Context, ada: Headers) -> Visitor:
    return sign_in(client, context, ada, "ada")


def test_the_page_of_a_new_project_says_it_beside_what_was_typed(ada_at: Visitor) -> None:
    answer = ada_at.post("/projects/new", {"slug": "fish", "manifest": WANTING}, referer="/projects/new")
    text = text_of(answer.text)
    assert answer.status_code == 409
    assert [piece for piece in SAYS if piece not in text] == []
    assert "libgomp1" in answer.text.partition("<textarea")[2]


def test_the_projects_page_says_it_when_saved_and_when_built(
    client: TestClient, context: Context, ada: Headers, ada_at: Visitor
) -> None:
    make(client, ada, PLAIN)
    at = "/projects/fish"
    saved = text_of(ada_at.send(f"{at}/manifest", {"manifest": WANTING, "then": "build"}, referer=at))
    assert [piece for piece in SAYS if piece not in saved] == []
    enable(context, "tide-packages")
    assert send_manifest(client, ada).status_code == 204
    enable(context, "")
    built = text_of(ada_at.send(f"{at}/build", {}, referer=at))
    assert [piece for piece in SAYS if piece not in built] == []
    assert kept(context) == (1, 1)
