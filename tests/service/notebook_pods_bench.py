"""A service on Kubernetes, by a fake API server, and somebody who starts notebooks there."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage_service.context import Context
from moorage_service.notebooks import reconcile
from moorage_service.settings import Inventory, Settings
from moorage_service.store.tables import EnvironmentRow, ProjectRow
from moorage_spawners.launch.api_thread import ApiThread
from moorage_spawners.launch.errors import StaleViewError
from moorage_spawners.launch.kubernetes_settings import (
    Builds,
    GpuType,
    Homes,
    KubernetesSettings,
    NetworkPolicy,
    Pods,
    Registry,
)
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.observed import now_utc
from moorage_spawners.launch.processes import Processes
from tests.fakes.kubernetes import FakeKubernetes
from tests.service.conftest import ENVIRONMENT, GIB, Headers
from tests.spawners.test_pod_processes import RUNNING
from tests.waiting import eventually

IMAGE = f"registry.example.org/moorage/environments@sha256:{'a' * 64}"
CLUSTER = KubernetesSettings(
    release="moorage", namespace="moorage", managed_by="moorage.moorage", namespace_prefix="moorage", workloads_role="moorage-workloads",
    spawner_role="moorage-spawner", hub_account="moorage-hub", service_account="moorage-service",
    pods=Pods(image="registry.example.org/moorage/notebook:1"), homes=Homes(capacity="10Gi", mount_path="/home/jovyan"),
    gpu_types={"t4": GpuType(nodeLabels={"gpu": "t4"}, count=2), "h200": GpuType(nodeLabels={"gpu": "h200"}, count=0)},
    quota={"pods": "20"}, network_policy=NetworkPolicy(), registry=Registry(url="registry.example.org/moorage"), builds=Builds(image="x"),
)  # fmt: skip


@pytest.fixture
def settings(settings: Settings, tmp_path: Path, kubernetes: FakeKubernetes) -> Settings:
    credentials = tmp_path / "dockerconfig"
    credentials.write_text('{"auths": {}}')
    registry = CLUSTER.registry.model_copy(update={"pull_secret": str(credentials)})
    cluster = CLUSTER.model_copy(update={"registry": registry})
    return settings.model_copy(update={"platform": "kubernetes", "kubernetes": cluster, "inventory": Inventory(cpu=8)})


@dataclass
class Desk:
    """The spawner's and the owner's side, and the cluster."""

    context: Context
    client: TestClient
    spawner: Headers
    ada: Headers
    kubernetes: FakeKubernetes
    thread: ApiThread

    def admit(self, **size: Any) -> Any:
        body = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": GIB, **size}}
        return self.client.post("/api/v1/notebooks", headers=self.spawner, json=body)

    def admitted(self, **size: Any) -> Any:
        answer = self.admit(**size)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def made(self, kind: str) -> dict[str, Any]:
        return {each["metadata"]["name"]: each for each in list(self.kubernetes.made.values()) if each["kind"] == kind}

    def secret(self, name: str) -> dict[str, str]:
        return {key: base64.b64decode(value).decode() for key, value in self.made("Secret")[name]["data"].items()}

    def pod(self, answer: Any, status: dict[str, Any] = RUNNING, cpu: str = "1", *, doomed: bool = False) -> None:
        whose = Ownership(
            workload_id=answer["workload_id"],
            generation=1,
            kind="notebook",
            role="server",
            owner=answer["pod"]["owner"],
            project="starter",
        )
        metadata: dict[str, Any] = {"labels": whose.labels(), "annotations": whose.annotations()}
        if doomed:
            metadata["deletionTimestamp"] = now_utc().isoformat()
        containers = [{"name": "server", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]

        async def put() -> None:
            self.kubernetes.put(
                f"{answer['workload_id']}-1", answer["pod"]["namespace"], metadata=metadata, spec={"containers": containers},
                status=status,
            )  # fmt: skip

        self.thread.wait(put())

    def relabel(self, namespace: str, labels: dict[str, str]) -> None:
        async def change() -> None:
            self.kubernetes.space(namespace, labels)

        self.thread.wait(change())

    def remove_space(self, namespace: str) -> None:
        async def remove() -> None:
            self.kubernetes.remove_space(namespace)

        self.thread.wait(remove())

    def remove_pod(self, answer: Any) -> None:
        async def remove() -> None:
            self.kubernetes.remove(f"{answer['workload_id']}-1", answer["pod"]["namespace"])

        self.thread.wait(remove())

    def until(self, workload: str, phase: str) -> Any:
        def reached() -> Any:
            reconcile.step(self.context, workload)
            found = self.client.get(f"/api/v1/notebooks/{workload}", headers=self.ada).json()
            return found if found["phase"] == phase else None

        return eventually(reached, what=f"phase {phase}")


@pytest.fixture
def desk(
    context: Context,
    client: TestClient,
    spawner: Headers,
    ada: Headers,
    project: ProjectRow,
    kubernetes: FakeKubernetes,
    thread: ApiThread,
) -> Desk:
    with context.database.begin() as session:
        session.get_one(EnvironmentRow, ENVIRONMENT).image = IMAGE
    return Desk(context, client, spawner, ada, kubernetes, thread)


def is_gone(pods: Processes, workload: str) -> bool | None:
    """None while nobody knows."""
    try:
        return all(seen.gone for seen in pods.observe(workload))
    except StaleViewError:
        return None
