"""The chart, installed on the node as an admin installs it, with images of this checkout, and reached by a forwarded port."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from moorage_spawners.readiness import free_port
from tests.kube.commands import run
from tests.kube.images import AUTHORITIES, authorities
from tests.kube.namespace import RESTRICTED
from tests.kube.node import Node
from tests.kube.place import ADDRESS, MARK
from tests.waiting import eventually

CHART = Path(__file__).parents[2] / "helm" / "moorage"
NAME = "moorage"
NULL = subprocess.DEVNULL
PARTS = ("hub", "service", "proxy")
TAG = "test"
NAMES = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]  # their server is no pod here
LITTLE = {"requests": {"cpu": "50m", "memory": "128Mi"}}


class Release:
    """One for each node: it makes objects of the whole cluster. Helm keeps what it knows in the cluster, and nothing here."""

    namespace = "moorage-release"

    def __init__(self, node: Node, port: int, values: Mapping[str, Any] | None = None) -> None:
        """`port`: of this machine, at which a browser finds it while `forwarded`."""
        self.node = node
        self.kubectl = node.kubectl
        self.url = f"http://localhost:{port}"
        self._port = port
        self._values = dict(values or {})
        self._ways: dict[int, subprocess.Popen[bytes]] = {}

    def install(self) -> None:
        """All parts are up when it returns."""
        self.node.push_own_images()
        metadata = {"name": self.namespace, "labels": RESTRICTED}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.upgrade()

    def upgrade(self, values: Mapping[str, Any] | None = None) -> None:
        """To the chart as it is here, with these values laid over the tests' own. Raises NodeError with helm's words."""
        given = json.dumps(_laid_over(_laid_over(self._chart_values(), self._values), values or {}))
        self.helm("upgrade", "--install", NAME, str(CHART), "-f", "-", "--wait", "--timeout", "240s", stdin=given)

    def helm(self, *argv: str, stdin: str | None = None) -> str:
        folder = self.node.place.work / "helm"
        env = {name: str(folder) for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
        program: list[str | Path] = [self.node.programs.path("helm"), f"--kubeconfig={self.node.kubeconfig}"]
        return run([*program, f"--namespace={self.namespace}", *argv], stdin=stdin, env=env).stdout

    def remove(self) -> None:
        """With what it keeps, too."""
        self.helm("uninstall", NAME, "--ignore-not-found", "--wait", "--timeout", "120s")
        self.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=120s")

    def pod(self, part: str) -> dict[str, Any]:
        """The one that is ready."""
        chosen = [
            pod
            for pod in self.kubectl.list("pods", self.namespace)
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == part and _is_ready(pod)
        ]
        return chosen[0] if chosen else {}

    def kill(self, part: str) -> None:
        """As a lost machine would; another is ready when it returns."""
        name = self.pod(part)["metadata"]["name"]
        self.kubectl("delete", "pod", name, "-n", self.namespace, "--force", "--grace-period=0")
        eventually(
            lambda: self.pod(part) and self.pod(part)["metadata"]["name"] != name, within=120, what=f"another {part}"
        )
        if part == "proxy":
            for port, way in list(self._ways.items()):  # each leads to the pod that was
                way.terminate()
                eventually(partial(self._answers, port), within=60, what="an answer of the new proxy")

    def link(self) -> str:
        """A login link, once."""
        said = self.kubectl(
            "exec", "-n", self.namespace, f"deploy/{NAME}-hub", "-c", "hub", "--", "moorage-hub", "link"
        )
        return next(word for word in said.split() if "/hub/login-once" in word)

    @contextmanager
    def forwarded(self, port: int | None = None) -> Iterator[None]:
        """While a port, the browser's as a rule, leads to the proxy's pod, or the one in its place; on the loopback address only."""
        port = port or self._port
        command = [*self.node.programs.kubernetes("kubectl"), f"--kubeconfig={self.node.kubeconfig}", "port-forward"]
        argv = [*command, "-n", self.namespace, f"svc/{NAME}-proxy-public", f"{port}:80"]
        env = {**os.environ, MARK: str(self.node.place.work)}  # by which `down` finds it, whoever was killed
        stopping = threading.Event()

        def lead() -> None:
            """One way leads to one pod: when that is gone, another is made."""
            while not stopping.is_set():
                self._ways[port] = subprocess.Popen(argv, env=env, stdin=NULL, stdout=NULL, stderr=NULL)
                self._ways[port].wait()
                stopping.wait(0.2)

        thread = threading.Thread(target=lead, name="port-forward", daemon=True)
        thread.start()
        try:
            eventually(lambda: self._answers(port), within=60, what="an answer through the forwarded port")
            yield
        finally:
            stopping.set()
            self._ways.pop(port).terminate()
            thread.join()

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, follow_redirects=True, timeout=60, trust_env=False) as client:
            yield client

    def _answers(self, port: int) -> bool:
        host = {"Host": f"localhost:{self._port}"}
        try:
            return httpx.get(f"http://127.0.0.1:{port}/hub/health", headers=host, timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _chart_values(self) -> dict[str, Any]:
        def image(name: str) -> dict[str, str]:
            return {"name": f"{self.node.registry}/moorage/{name}", "tag": TAG}

        trusted = authorities()
        names = {"to": [{"ipBlock": {"cidr": f"{ADDRESS}/32"}}], "ports": NAMES}  # its name server is no pod
        return {
            "publicUrl": self.url,
            "hub": {"image": image("control"), "resources": LITTLE},
            "service": {"image": image("control"), "resources": LITTLE},
            "proxy": {"chp": {"image": image("proxy"), "resources": LITTLE}},
            "singleuser": {
                "image": image("notebook"),
                "networkPolicy": {"egress": [names]},
                "extraEnv": {} if trusted is None else {"SSL_CERT_FILE": AUTHORITIES},
            },
            "registry": {"url": f"{self.node.registry}/moorage", "insecure": True},
            "builds": {
                "cpu": 0.2,
                "memory": "2Gi",
                "disk": "4Gi",
                "caCertificates": "" if trusted is None else trusted.read_text(),
                "egress": [names],
            },
            "prePuller": {"hook": {"enabled": False}, "continuous": {"enabled": False}},
        }


def new_release(node: Node) -> Release:
    return Release(node, int(os.environ.get("MOORAGE_KUBE_PORT") or free_port()))


def _laid_over(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """As helm lays one file of values over another."""
    both = {
        name: _laid_over(values[name], more[name])
        for name in values.keys() & more.keys()
        if isinstance(values[name], Mapping) and isinstance(more[name], Mapping)
    }
    return {**values, **more, **both}


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
