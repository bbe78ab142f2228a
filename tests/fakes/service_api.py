"""The service's REST API as the client sees it, in memory: a stand-in for the process at the other end of the wire."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from moorage.client import Client

URL = "http://service.test/services/moorage"
GIB = 2**30

SIZE = {"cpu": 1.0, "memory": 2 * GIB, "gpu": 0, "gpu_type": None}
OPTIONS: dict[str, Any] = {
    "engines": [
        {
            "engine": "ray",
            "available": True,
            "why_not": None,
            "default": {"engine": "ray", "min_workers": 1, "max_workers": 2, "worker": SIZE, "head": None},
        },
        {
            "engine": "dask",
            "available": False,
            "why_not": "This project has no dask; add it to moorage.yaml and build.",
        },
    ],
    "head": {"cpu": 1.0, "memory": 2 * GIB, "gpu": 0, "gpu_type": None},
    "max_workers": 8,
    "max_worker": {"cpu": 4.0, "memory": 16 * GIB, "gpu": 2, "gpu_type": None},
    "gpu_types": ["a100"],
    "remaining": [
        {
            "resource": "cpu",
            "left": 4.0,
            "amount": 6.0,
            "used": 2.0,
            "rule": "everyone may hold at most 6 cores at once",
        },
        {
            "resource": "memory",
            "left": 8.0 * GIB,
            "amount": 16.0 * GIB,
            "used": 8.0 * GIB,
            "rule": "ada may hold 16 GiB",
        },
    ],
}
REFUSAL: dict[str, Any] = {
    "rule": "ada may hold at most 1 core at once",
    "resource": "cpu",
    "amount": 1.0,
    "used": 1.0,
    "asked": 3.0,
    "held_by": [{"workload": "n1", "kind": "notebook", "name": "starter", "owner": "ada", "amount": 1.0}],
    "message": "Refused: ada may hold at most 1 core. Stop notebook starter, or ask an admin for more.",
}


class FakeServiceApi:
    """Answers like the service. `requests` keeps what came; `next_replies` go out before anything else."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.next_replies: list[httpx.Response | Exception] = []
        self.clusters: dict[str, dict[str, Any]] = {}
        self.refuse_creates = False
        self.attach: dict[str, Any] = {}
        self.routes: dict[tuple[str, str], Callable[[httpx.Request], httpx.Response]] = {}

    def client(self) -> Client:
        return Client(URL, "token-of-ada", transport=httpx.MockTransport(self.answer), delays=(0.0, 0.0))

    def add_cluster(self, cluster_id: str, name: str, **changes: Any) -> dict[str, Any]:
        cluster = {
            "id": cluster_id, "kind": "cluster", "name": name, "owner": "ada", "project": "starter", "phase": "pending",
            "created_at": "2026-11-21T06:00:00Z", "holds": {"cpu": 3.0}, "workers": 0, "target_workers": 1,
            "spec": {"engine": "ray", "min_workers": 1, "max_workers": 2, "worker": SIZE}, **changes,
        }  # fmt: skip
        self.clusters[cluster_id] = cluster
        return cluster

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.next_replies:
            reply = self.next_replies.pop(0)
            if isinstance(reply, Exception):
                raise reply
            return reply
        path = request.url.path.removeprefix("/services/moorage/api/v1")
        own = self.routes.get((request.method, path))
        if own is not None:
            return own(request)
        if path == "/clusters/options":
            return httpx.Response(200, json=OPTIONS)
        if path == "/clusters":
            return self._create(request) if request.method == "POST" else self._list()
        if path.startswith("/clusters/"):
            return self._one(request.method, *path.split("/")[2:])
        return problem(404, "not_found", f"There is no {path}.")

    def _list(self) -> httpx.Response:
        return httpx.Response(200, json=list(self.clusters.values()))

    def _create(self, request: httpx.Request) -> httpx.Response:
        if self.refuse_creates:
            return problem(409, "limit_refused", REFUSAL["message"], refusal=REFUSAL)
        asked = json.loads(request.content)
        cluster_id = f"c{len(self.clusters) + 1}"
        return httpx.Response(201, json=self.add_cluster(cluster_id, asked.get("name") or "ray-1", spec=asked["spec"]))

    def _one(self, method: str, cluster_id: str, part: str = "") -> httpx.Response:
        cluster = self.clusters.get(cluster_id)
        if cluster is None:
            return problem(404, "not_found", "There is no such cluster.")
        if part == "attach":
            return httpx.Response(200, json=self.attach)
        if method == "DELETE":
            cluster["phase"] = "stopping"
            return httpx.Response(202, json={})
        if method == "PATCH":
            cluster |= {"stops_at": None, **json.loads(self.requests[-1].content)}
        return httpx.Response(200, json=cluster)


def problem(status: int, code: str, message: str, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": message, **more})
