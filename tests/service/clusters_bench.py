"""Clusters at the service's routes and in its reconciler, for tests. Processes are real; only the engine's program is a stand-in."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from moorage_service.clusters import operations
from moorage_service.clusters.reconcile import step
from moorage_service.context import Context
from moorage_service.store.tables import ClusterRow
from moorage_spawners.launch import Observation
from tests.service.conftest import Headers
from tests.service.engines_bench import furnish_with
from tests.waiting import eventually

API = "/api/v1"
PACKAGES = {"ray": "2.60.0", "aiohttp-cors": "0.8", "distributed": "2026.8.0", "bokeh": "3.9"}
SIZE = {"cpu": 1, "memory": 1 << 30}
PROGRAM = """#!/bin/sh
# An engine's program that starts nothing: it writes a line and waits. With the file "failing" beside it, workers end at once.
echo "started: $*"
case "$*" in *--head*|*moorage.agent*) ;; *) [ -e "$(dirname "$0")/failing" ] && exit 3 ;; esac
exec sleep 3600
"""


class Clusters:
    """Talks to the routes as ada's notebook and steps the reconciler by hand."""

    def __init__(self, client: TestClient, context: Context, notebook: Headers, environment: Path) -> None:
        self.client = client
        self.context = context
        self.notebook = notebook
        self.environment = environment

    def post(self, expect: int = 201, key: str | None = None, name: str | None = None, **spec: Any) -> dict[str, Any]:
        body = {"name": name, "spec": {"engine": "ray", "worker": SIZE, **spec}}
        headers = self.notebook | ({} if key is None else {"Idempotency-Key": key})
        answer = self.client.post(f"{API}/clusters", json=body, headers=headers)
        assert answer.status_code == expect, answer.text
        return dict(answer.json())

    def start(self, **spec: Any) -> str:
        cluster = str(self.post(**spec)["id"])
        self.step(cluster)
        return cluster

    def step(self, cluster: str) -> dict[str, Any]:
        step(self.context, cluster)
        return self.get(cluster)

    def get(self, cluster: str) -> dict[str, Any]:
        answer = self.client.get(f"{API}/clusters/{cluster}", headers=self.notebook)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def seen(self, cluster: str) -> dict[str, Observation]:
        return {each.role: each for each in self.context.processes.observe(cluster)}

    def alive(self, cluster: str) -> set[str]:
        return {role for role, each in self.seen(cluster).items() if not each.gone}

    def row(self, cluster: str) -> ClusterRow:
        with self.context.database.read() as session:
            return session.get_one(ClusterRow, cluster)

    def agent(self, cluster: str) -> Headers:
        return {"Authorization": f"Bearer {operations.credentials_of(self.context, self.row(cluster))['agent']}"}

    def report(self, cluster: str, *workers: dict[str, Any], expect: int = 200, **fields: Any) -> dict[str, Any]:
        body = {"generation": 1, "ready": True, "versions": {"ray": "2.60.0"}, "workers": list(workers), **fields}
        answer = self.client.post(f"{API}/agent/reports", json=body, headers=self.agent(cluster))
        assert answer.status_code == expect, answer.text
        return dict(answer.json())

    def kill(self, cluster: str, role: str) -> None:
        pid = self.seen(cluster)[role].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.seen(cluster)[role].gone, what=f"the end of {role}")

    def until_ended(self, cluster: str) -> dict[str, Any]:
        return eventually(lambda: found if (found := self.step(cluster))["ended_at"] else None, what="the end")


def worker(name: str, *, busy: bool = False, idle_s: float = 0.0) -> dict[str, Any]:
    return {"name": name, "busy": busy, "idle_s": idle_s}


@contextmanager
def open_clusters(client: TestClient, context: Context) -> Iterator[Clusters]:
    """Of ada, who is there. Ends all processes afterwards."""
    environment = context.settings.state / "program"
    (environment / "bin").mkdir(parents=True)
    program = environment / "bin" / "python"
    program.write_text(PROGRAM)
    for path in (environment, environment / "bin", program):
        path.chmod(0o755)
    made = Clusters(client, context, furnish_with(context, environment, PACKAGES, "ada"), environment)
    yield made
    for cluster in {each.workload_id for each in context.processes.observe_all()}:
        context.processes.stop(cluster, grace_s=0)
        eventually(lambda cluster=cluster: not made.alive(cluster), what="the end of all processes")  # type: ignore[misc]
