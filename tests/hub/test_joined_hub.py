"""A plain hub, with a spawner of its own, has joined: both kinds of servers start, are found again after a restart, and end."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from moorage.wire import NotebookAdmission
from tests.cluster_settings import CLUSTER
from tests.fakes.notebook_service import FakeService, serving
from tests.hub.test_pods import ADDRESS, PORT, Answers, Cluster, in_a_thread
from tests.ports import free_port
from tests.spawners.kube_scene import PLACE
from tests.waiting import eventually

ADMIN, TO_SERVICE, TO_HUB = "1" * 64, "2" * 64, "3" * 64
CONFIGURATION = """
c = get_config()
c.JupyterHub.bind_url = "{url}"
c.JupyterHub.hub_bind_url = "{hub}"
c.ConfigurableHTTPProxy.api_url = "{proxy_api}"
c.ConfigurableHTTPProxy.auth_token = "of-the-proxy"
c.ConfigurableHTTPProxy.command = {proxy}
c.JupyterHub.cleanup_servers = False
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/{{username}}"
c.Spawner.cmd = ["{python}", "-m", "jupyterhub.singleuser", "--allow-root"]
c.Spawner.environment = {{"WHOSE": "theirs"}}
c.JupyterHub.services = [{{"name": "theirs", "api_token": "{admin}"}}]
c.JupyterHub.load_roles = [{{"name": "all", "scopes": ["admin:users", "admin:servers", "tokens"], "services": ["theirs"]}}]
from moorage_hub.join import join
join(c, "{folder}/moorage")
"""


class Theirs:
    def __init__(self, folder: Path, proxy_script: Path) -> None:
        ports = [free_port() for _ in range(4)]
        self.url, hub, proxy_api, service = (f"http://127.0.0.1:{port}" for port in ports)
        self.folder = folder
        admission = NotebookAdmission(
            workload_id="nb", generation=1, token="", project="starter", environment="abc", environment_path="", project_files=None,
            home="", uid=None, gid=None, pod=PLACE,
        )  # fmt: skip
        self.service_port = ports[3]
        self.service = FakeService(token=TO_SERVICE, hub_api=f"{hub}/hub/api", hub_token=TO_HUB, admission=admission)
        self._mount({
            "platform": "kubernetes", "public_url": self.url, "origins": "one", "port": 8000, "hub_port": 8081, "proxy_api_port": 8001,
            "service_port": 8090, "hub_connect_url": "http://hub.lab:8081", "service_connect_url": service, "kubernetes": CLUSTER,
        })  # fmt: skip
        modules = next(parent for parent in proxy_script.parents if parent.name == "node_modules")
        proxy = [str(modules.parent / "bin" / "node"), str(proxy_script)]
        (folder / "jupyterhub_config.py").write_text(
            CONFIGURATION.format(
                url=self.url,
                hub=hub,
                proxy_api=proxy_api,
                proxy=proxy,
                python=sys.executable,
                admin=ADMIN,
                folder=folder,
            )
        )

    def _mount(self, settings: Mapping[str, Any]) -> None:
        (self.folder / "moorage" / "secrets").mkdir(parents=True)
        (self.folder / "moorage" / "settings.yaml").write_text(yaml.safe_dump({"hub": settings}))
        for name, token in (("hub-to-service", TO_SERVICE), ("service-to-hub", TO_HUB)):
            (self.folder / "moorage" / "secrets" / name).write_text(token)

    @contextmanager
    def running(self) -> Iterator[None]:
        argv = [sys.executable, "-m", "jupyterhub", "--config", "jupyterhub_config.py"]
        with (self.folder / "hub.log").open("a") as log:
            process = subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log, env=dict(os.environ))
        try:
            eventually(self._healthy, what="the hub's health")
            yield
        finally:
            process.terminate()
            process.wait()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def api(self, method: str, path: str, token: str = ADMIN, **given: Any) -> httpx.Response:
        headers = {"Authorization": f"token {token}"}
        return httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=60, trust_env=False, **given)

    def servers(self) -> dict[str, Any]:
        """Server of the user ada -> whether it is ready."""
        found = self.api("GET", "/users/ada").raise_for_status().json()["servers"]
        return {name: each["ready"] for name, each in found.items()}


@pytest.fixture
def theirs(proxy_script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Theirs, Cluster]]:
    hub = Theirs(tmp_path, proxy_script)
    with (
        in_a_thread(ThreadingHTTPServer((ADDRESS, PORT), Answers)),
        Cluster().running() as cluster,
        serving(hub.service, hub.service_port),
    ):
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path / "kubeconfig")))
        yield hub, cluster


def test_both_kinds_of_servers_start_outlive_the_hub_and_end(theirs: tuple[Theirs, Cluster]) -> None:
    hub, cluster = theirs
    both = {"": True, "starter": True}
    with hub.running():
        hub.api("POST", "/users/ada").raise_for_status()
        hub.api("POST", "/users/ada/server").raise_for_status()
        eventually(lambda: hub.servers() == {"": True}, what="the hub's own server")
        assert hub.service.requests == []
        hub.api("POST", "/users/ada/servers/starter").raise_for_status()
        eventually(lambda: hub.servers() == both, what="the project's notebook")
        (pod,) = cluster.kubernetes.objects()
        variables = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
        assert variables["JUPYTERHUB_API_URL"] == "http://hub.lab:8081/hub/api"
        assert (
            "JUPYTERHUB_SINGLEUSER_APP" not in variables or variables["JUPYTERHUB_SINGLEUSER_APP"] != "jupyter_server"
        )
    with hub.running():
        eventually(lambda: hub.servers() == both, what="both servers again")
        assert [each["metadata"]["uid"] for each in cluster.kubernetes.objects()] == [pod["metadata"]["uid"]]
        for server in ("/users/ada/servers/starter", "/users/ada/server"):
            assert hub.api("DELETE", server).status_code in (202, 204)
        eventually(lambda: hub.servers() == {}, what="the end of both")
    assert cluster.kubernetes.objects() == []
    assert hub.service.observations[-1]["state"] == "gone"


def test_the_service_signs_a_user_out_there(theirs: tuple[Theirs, Cluster]) -> None:
    hub, _ = theirs
    with hub.running():
        hub.api("POST", "/users/ada").raise_for_status()
        token = hub.api("POST", "/users/ada/tokens", json={}).raise_for_status().json()["token"]
        assert hub.api("GET", "/user", token).is_success
        assert hub.api("POST", "/sign-out/ada").status_code == 403  # another service
        assert hub.api("POST", "/sign-out/ada", TO_HUB).status_code == 204
        assert hub.api("GET", "/user", token).status_code == 403
