"""The chart, installed on the node as an admin installs it, with images of this checkout, and reached by a port of this machine."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from moorage.origins import PREFIX
from moorage_spawners.readiness import free_port
from tests.kube import gpus
from tests.kube.commands import run
from tests.kube.images import AUTHORITIES, authorities
from tests.kube.namespace import RESTRICTED
from tests.kube.node import Node
from tests.kube.place import ADDRESS
from tests.kube.relay import Relay
from tests.waiting import eventually

CHART = Path(__file__).parents[2] / "helm" / "moorage"
NAME = "moorage"
PARTS = ("hub", "service", "proxy")
TAG = "test"
NAMES = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]  # their server is no pod here
LITTLE = {"requests": {"cpu": "50m", "memory": "128Mi"}}
PYTHON = ("/opt/moorage/control/bin/python", "-I", "-c")
# As `moorage-hub user add` and `moorage-hub link` do for one.
LINKS = """
import json, sys
from moorage_hub.accounts import Accounts
from moorage_hub.login_links import LoginLinks
from moorage_hub.main import settings_of
settings = settings_of(None)
accounts, links = Accounts.of(settings), LoginLinks(settings.state)
for name in sys.argv[1:]:
    accounts.get(name) or accounts.add(name)
print(json.dumps({name: links.create(name) for name in sys.argv[1:]}))
"""
MORE = {"requests": {"cpu": "150m", "memory": "128Mi"}}  # it starts anew while many notebooks do


class Release:
    """Helm keeps what it knows in the cluster, and nothing here. `public`: the Service by which browsers come in."""

    name = NAME
    namespace = "moorage-release"
    public = f"{NAME}-proxy-public"

    def __init__(self, node: Node, port: int, values: Mapping[str, Any] | None = None) -> None:
        """`port`: of this machine, at which a browser finds it while `forwarded`."""
        self.node = node
        self.kubectl = node.kubectl
        self.url = f"http://localhost:{port}"
        self._port = port
        self._values = dict(values or {})

    def install(self) -> None:
        """All parts are up when it returns."""
        self.node.push_own_images()
        metadata = {"name": self.namespace, "labels": RESTRICTED}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.upgrade()

    def upgrade(self, values: Mapping[str, Any] | None = None) -> None:
        """To the chart as it is here, with these values laid on top. Raises NodeError with helm's words."""
        files = []
        for number, each in enumerate((self.chart_values(), self._values, values or {})):
            path = self.node.place.work / f"values-{number}.json"
            path.write_text(json.dumps(each))
            files += ["-f", str(path)]
        self.helm("upgrade", "--install", self.name, str(CHART), *files, "--wait", "--timeout", "240s")

    def helm(self, *argv: str) -> str:
        folder = self.node.place.work / "helm"
        env = {name: str(folder) for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
        program: list[str | Path] = [self.node.programs.path("helm"), f"--kubeconfig={self.node.kubeconfig}"]
        return run([*program, f"--namespace={self.namespace}", *argv], env=env).stdout

    def remove(self) -> None:
        """With what it keeps, too."""
        self.helm("uninstall", self.name, "--ignore-not-found", "--wait", "--timeout", "120s")
        self.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=120s")

    def pod(self, part: str) -> dict[str, Any]:
        """The one that is ready."""
        chosen = self.ready(part)
        return chosen[0] if chosen else {}

    def ready(self, part: str) -> list[dict[str, Any]]:
        """All pods of the part that are ready, and not on their way out."""
        return [
            pod
            for pod in self.kubectl.list("pods", self.namespace)
            if _part_of(pod) == part and _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        ]

    def lose(self, part: str) -> str:
        """As a machine that is lost takes it along: nothing of it says goodbye. The pod that was."""
        name = str(self.pod(part)["metadata"]["name"])
        self.kubectl.try_run("exec", "-n", self.namespace, name, "-c", part, "--", "sh", "-c", "kill -9 -1")
        self.kubectl("delete", "pod", name, "-n", self.namespace, "--force", "--grace-period=0")
        return name

    def kill(self, part: str) -> None:
        """Lost; another is ready when it returns."""
        self.until_another(part, self.lose(part))

    def until_another(self, part: str, name: str) -> None:
        """Until one is ready that is not this pod, and the port of this machine leads to it."""
        eventually(
            lambda: self.pod(part) and self.pod(part)["metadata"]["name"] != name, within=120, what=f"another {part}"
        )
        if part == "proxy":
            eventually(lambda: self._answers(self._port), within=60, what="an answer of the new proxy")

    def scale(self, part: str, replicas: int) -> None:
        """So many of its pods are ready when it returns, none of those that were too many is left."""
        self.kubectl("scale", f"deploy/{NAME}-{part}", "-n", self.namespace, f"--replicas={replicas}")

        def there() -> bool:
            pods = [each for each in self.kubectl.list("pods", self.namespace) if _part_of(each) == part]
            return len(pods) == replicas and all(_is_ready(each) for each in pods)

        eventually(there, within=120, what=f"{replicas} pods of {part}")

    def link(self) -> str:
        """A login link of the first user, once."""
        said = self.in_hub("moorage-hub", "link")
        return next(word for word in said.split() if "/hub/login-once" in word)

    def links(self, *names: str) -> dict[str, str]:
        """Tokens of login links, by user; all are on the hub's built-in list from now on."""
        made: dict[str, str] = json.loads(self.in_hub(*PYTHON, LINKS, *names))
        return made

    def in_hub(self, *argv: str) -> str:
        """What a program says that the hub's pod runs beside the hub."""
        return self.kubectl("exec", "-n", self.namespace, f"deploy/{NAME}-hub", "-c", "hub", "--", *argv)

    @contextmanager
    def forwarded(self, port: int | None = None) -> Iterator[None]:
        """While a port, the browser's as a rule, leads to the proxy, or the one in its place; on the loopback address only."""
        service = self.kubectl.get("service", self.public, self.namespace)
        assert service is not None
        port = port or self._port
        with Relay(port, (service["spec"]["clusterIP"], 80)):
            eventually(lambda: self._answers(port), within=60, what="an answer through the port")
            yield

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, follow_redirects=True, timeout=60, trust_env=False) as client:
            yield client

    @contextmanager
    def admin(self) -> Iterator[httpx.Client]:
        """The browser of the first user, signed in, which asks as the portal's own pages do."""
        with self.browser() as browser:
            browser.get(self.link()).raise_for_status()
            browser.get(f"{PREFIX}/").raise_for_status()
            browser.headers["Origin"] = self.url
            yield browser

    def _answers(self, port: int) -> bool:
        host = {"Host": f"localhost:{self._port}"}
        try:
            return httpx.get(f"http://127.0.0.1:{port}/hub/health", headers=host, timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def chart_values(self) -> dict[str, Any]:
        """Of the release as it is installed, less those that `upgrade` is given."""

        def image(name: str) -> dict[str, str]:
            return {"name": f"{self.node.registry}/moorage/{name}", "tag": TAG}

        trusted = authorities()
        names = {"to": [{"ipBlock": {"cidr": f"{ADDRESS}/32"}}], "ports": NAMES}  # its name server is no pod
        return {
            "publicUrl": self.url,
            "hub": {"image": image("control"), "resources": MORE},
            "service": {"image": image("control"), "resources": LITTLE},
            "proxy": {"chp": {"image": image("proxy"), "resources": LITTLE}},
            "singleuser": {
                "image": image("notebook"),
                "networkPolicy": {"egress": [names]},
                "extraEnv": {} if trusted is None else {"SSL_CERT_FILE": AUTHORITIES},
            },
            "registry": {"url": f"{self.node.registry}/moorage", "insecure": True},
            "gpu": {"types": gpus.TYPES},
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


def _part_of(pod: dict[str, Any]) -> str | None:
    found: str | None = pod["metadata"]["labels"].get("app.kubernetes.io/component")
    return found


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
