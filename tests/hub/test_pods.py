"""A real hub on a cluster without machines: notebooks are pods, and outlive it."""

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage_spawners.launch.api_thread import ApiThread
from tests.fakes.kubernetes import FakeKubernetes, Object
from tests.hub.driver import RunningHub
from tests.hub.test_settings import CLUSTER
from tests.spawners.kube_scene import NAMESPACE, PLACE
from tests.waiting import eventually

ADDRESS, PORT = "127.0.0.9", 8888  # the pod's own
LOOKING = "Looking for a machine."


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def in_a_thread(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Cluster:
    """Its API in a loop of its own, and a machine that runs every pod, once it is `seen`, and ends it when it is asked to."""

    def __init__(self) -> None:
        self.kubernetes = FakeKubernetes(events=FakeKubernetes(kind="events"))
        self.seen: Callable[[], bool] = lambda: True

    @contextmanager
    def running(self) -> Iterator["Cluster"]:
        thread = ApiThread()
        try:
            thread.wait(self.kubernetes.come_back())
            asyncio.run_coroutine_threadsafe(self._work(), thread.loop)
            yield self
            thread.wait(self.kubernetes.leave())
        finally:
            thread.close()

    async def _work(self) -> None:
        while True:
            for pod in self.kubernetes.objects():
                if pod["status"]["phase"] == "Pending" and self.seen():
                    self.kubernetes.put(pod["metadata"]["name"], NAMESPACE, metadata=pod["metadata"], status=RUNS)
            while self.kubernetes.ended:
                self.kubernetes.remove(self.kubernetes.ended.pop()[0], NAMESPACE)
            await asyncio.sleep(0.05)

    def kubeconfig(self, path: Path) -> Path:
        cluster = {"server": f"http://127.0.0.1:{self.kubernetes.port}"}
        config = {
            "apiVersion": "v1", "kind": "Config", "clusters": [{"name": "c", "cluster": cluster}], "current-context": "c",
            "users": [{"name": "hub", "user": {"token": "t"}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "hub"}}],
        }  # fmt: skip
        path.write_text(json.dumps(config))
        return path


RUNS: Object = {
    "phase": "Running", "podIP": ADDRESS, "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [{"name": "server", "state": {"running": {}}}],
}  # fmt: skip


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with in_a_thread(ThreadingHTTPServer((ADDRESS, PORT), Answers)), Cluster().running() as made:
        yield made


@pytest.fixture
def hub(
    cluster: Cluster, proxy_script: Path, server_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningHub]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path / "kubeconfig")))
    with tempfile.TemporaryDirectory(prefix="moorage-hub-") as folder:
        state = Path(folder) / "state"
        (state / "homes").mkdir(parents=True)
        told = {"platform": "kubernetes", "kubernetes": CLUSTER["kubernetes"]}
        (state / "settings.yaml").write_text(yaml.safe_dump({"hub": told}))
        own = RunningHub(state, proxy_script, server_python)
        assert own.service.admission is not None
        own.service.admission = replace(own.service.admission, pod=PLACE, token="")
        cluster.seen = lambda: any(each.get("message") == LOOKING for each in own.service.observations)
        with own.serving():
            yield own


def test_a_notebook_is_a_pod_that_outlives_the_hub_and_ends_when_asked(hub: RunningHub, cluster: Cluster) -> None:
    token = hub.portal_token()
    events = hub.start_notebook(token)
    assert events[-1].get("ready"), events
    assert LOOKING in [event["message"] for event in events]
    eventually(lambda: hub.service.observations[-1]["state"] == "ready", what="the news for the service")
    (pod,) = cluster.kubernetes.objects()
    assert pod["spec"]["nodeSelector"] == {"pool": "users"}
    assert "secret" not in json.dumps(pod["spec"]["containers"][0]["env"]).replace("secretKeyRef", "")
    hub.child.stop()
    hub.start()
    eventually(lambda: servers(hub, token).get("starter", {}).get("ready"), what="the server that was found again")
    assert [each["metadata"]["uid"] for each in cluster.kubernetes.objects()] == [pod["metadata"]["uid"]]
    assert hub.api("DELETE", "/users/admin/servers/starter", token).status_code in (202, 204)
    eventually(lambda: not servers(hub, token), what="the end")
    assert cluster.kubernetes.objects() == []


def servers(hub: RunningHub, token: str) -> dict[str, Any]:
    found: dict[str, Any] = hub.api("GET", "/users/admin", token).json()["servers"]
    return found
