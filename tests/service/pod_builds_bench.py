"""Builds by pods, as tests of them begin: a real registry with a notebook image, and a cluster whose one machine is this one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage_images.oci.connection import Connection
from moorage_images.oci.reference import Reference
from moorage_images.oci.registry import Registry
from moorage_service.context import Context
from moorage_service.projects.builder import Builder
from moorage_service.projects.platforms.pods import PodBuilds
from moorage_service.settings import Inventory, Rates, Settings
from moorage_service.store.tables import EnvironmentRow
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from tests.fakes.kubelet import Kubelet
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.package_index import PackageIndex, client_wheel
from tests.images.base_images import push_base
from tests.images.places import open_python
from tests.images.registries import RunningRegistry, running

Headers = dict[str, str]
PLACE = "tide-builds"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running(tmp_path_factory.mktemp("registry") / "r") as found:
        yield found


@pytest.fixture
def registry(images: RunningRegistry) -> Iterator[Registry]:
    with Connection({}, plain_http=(images.host,)) as connection:
        yield Registry(connection)


@pytest.fixture
def base(images: RunningRegistry, registry: Registry, tmp_path: Path) -> Reference:
    """The notebook image, by its tag; of each test its own, and so is where environments go."""
    path = tmp_path.name.lower().strip("_")
    where = Reference(images.host, f"{path}/notebook", "1")
    push_base(registry, where)
    return where


@pytest.fixture
def settings(tmp_path: Path, base: Reference, kubernetes: FakeKubernetes) -> Settings:
    told = KubernetesSettings.model_validate(
        {
            "release": "tide", "namespace": "tide-system", "managed_by": "tide-system.tide", "namespace_prefix": "tide",
            "workloads_role": "tide-workloads", "spawner_role": "tide-spawner", "hub_account": "tide-hub",
            "service_account": "tide-service", "pods": {"image": str(base)}, "homes": {"capacity": "1Gi", "mount_path": "/home/jovyan"},
            "network_policy": {}, "registry": {"url": f"{base.host}/{base.repository.rpartition('/')[0]}", "insecure": True},
            "builds": {"image": "registry.example.org/moorage/service:1", "keep_images_days": 3},
        }
    )  # fmt: skip
    return Settings(
        state=tmp_path / "state", inventory=Inventory(cpu=8, memory=32 << 30, gpus={}), hub_token_cache_s=0, seed_starter=False,
        rates=Rates(enabled=False), python_versions={"3.11": str(open_python())}, kubernetes=told,
    )  # fmt: skip


@dataclass
class Cluster:
    kubernetes: FakeKubernetes
    kubelet: Kubelet
    builds: PodBuilds
    builder: Builder

    def made(self, ending: str) -> Any:
        return next((each for path, each in self.kubernetes.made.items() if path.endswith(ending)), None)


@pytest.fixture
def cluster(tmp_path: Path, context: Context, kubernetes: FakeKubernetes, index: PackageIndex) -> Iterator[Cluster]:
    kubelet = Kubelet(kubernetes, tmp_path, client_wheel(tmp_path / "client").parent, index.variables)
    kubernetes.kubelet = kubelet
    builds = PodBuilds(context)
    yield Cluster(kubernetes, kubelet, builds, Builder(context, builds))
    builds.close()


def row(context: Context) -> EnvironmentRow:
    with context.database.read() as session:
        return session.query(EnvironmentRow).one()


def answer(client: TestClient, headers: Headers, build: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/builds/{build}", headers=headers).json()
    return found


def log_of(client: TestClient, headers: Headers, build: str) -> str:
    return client.get(f"/api/v1/builds/{build}/log", headers=headers).text
