"""A hub that somebody runs already, by hand as the chart of Zero to JupyterHub does: hub, proxy, KubeSpawner with profiles.

Of Moorage it has what docs/kubernetes.md tells it to have, and nothing else. One image for it and for ours, to build one fewer.
"""

import json
import re
from typing import Any

import yaml

from helm.write_schema import PAGE
from tests.kube.kubectl import Object
from tests.kube.release import LITTLE, TAG, Release
from tests.waiting import eventually

HUB = {"app": "jupyterhub", "component": "hub", "release": "theirs"}
PROXY = {"app": "jupyterhub", "component": "proxy", "release": "theirs"}
# As that chart's policy lets in who may talk to the hub.
MAY_ASK = {"hub.jupyter.org/network-access-hub": "true"}
ALLOWED = {"ports": [{"port": 8081}], "from": [{"podSelector": {"matchLabels": MAY_ASK}}]}
PROXY_TOKEN = "f" * 64
PASSWORD = "of-everybody-here"
CONFIGURATION = """
c = get_config()
c.JupyterHub.hub_bind_url = "http://:8081"
c.JupyterHub.hub_connect_url = "http://hub:8081"  # a name of this namespace alone
c.JupyterHub.cleanup_servers = False
c.JupyterHub.db_url = "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/srv/jupyterhub/cookie-secret"
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.ConfigurableHTTPProxy.api_url = "http://proxy-api:8001"
c.ConfigurableHTTPProxy.should_start = False
c.JupyterHub.services = []
c.JupyterHub.load_roles = []
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "%(password)s"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"boss"}
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.image = "%(image)s"
c.KubeSpawner.cmd = ["/opt/moorage/server/bin/jupyterhub-singleuser"]
c.KubeSpawner.environment = {"WHOSE": "theirs"}
c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
c.KubeSpawner.cpu_guarantee = 0.05
c.KubeSpawner.mem_guarantee = "128M"
c.KubeSpawner.start_timeout = 180
c.KubeSpawner.profile_list = [
    {"display_name": "Small", "slug": "small", "default": True},
    {"display_name": "Large", "slug": "large", "kubespawner_override": {"environment": {"WHOSE": "large"}}},
]
"""
KUBESPAWNERS_RULES = [
    {
        "apiGroups": [""],
        "resources": ["pods", "persistentvolumeclaims", "secrets", "services"],
        "verbs": ["get", "watch", "list", "create", "delete"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
]
QUICK = {"terminationGracePeriodSeconds": 1}


def told(release: str, namespace: str) -> dict[str, Any]:
    """What docs/kubernetes.md adds to that hub's values, for a release of this name; the part `hub`."""
    (block,) = re.findall(r"^```yml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    named = block.replace("name: moorage-", f"name: {release}-moorage-").replace(
        "jupyter.moorage", f"{namespace}.{release}"
    )
    hub: dict[str, Any] = yaml.safe_load(named.replace("instance: moorage", f"instance: {release}"))["hub"]
    return hub


class Joined(Release):
    """The chart for that hub, in its namespace; and the hub."""

    name = "beside"
    namespace = "their-hub"
    public = "proxy-public"
    VALUES = {
        "existingHub": {"enabled": True, "hubLabels": {"release": "theirs"}, "proxyLabels": {"release": "theirs"}},
        "service": {"settings": {"seed_starter": False}},
    }

    def install(self) -> None:
        """The service and the hub answer when it returns."""
        self.node.push_own_images()
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        self.upgrade()
        self.kubectl.apply(*self._hub(), *self._proxy())
        for name in ("hub", "proxy"):
            eventually(lambda name=name: self._is_ready(name), within=120, what=f"their {name}")  # type: ignore[misc]

    def remove(self) -> None:
        """Nobody comes after it who would have to wait for the end of all."""
        ours = f"moorage.dev/managed-by={self.namespace}.{self.name}"
        self.helm("uninstall", self.name, "--ignore-not-found")
        self.kubectl("delete", "pods", "--all", "-n", self.namespace, "--force", "--grace-period=0")
        self.kubectl("delete", "namespace", "-l", ours, "--wait=false")
        self.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")

    def _is_ready(self, pod: str) -> bool:
        found = self.kubectl.get("pod", pod, self.namespace)
        conditions = (found or {}).get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _image(self, name: str) -> str:
        return f"{self.node.registry}/moorage/{name}:{TAG}"

    def _hub(self) -> list[Object]:
        moorage = told(self.name, self.namespace)
        own = CONFIGURATION % {"password": PASSWORD, "image": self._image("notebook")}
        configuration = own + moorage["extraConfig"]["moorage"]
        container = {
            "name": "hub", "image": self._image("control"), "resources": LITTLE,
            "args": ["jupyterhub", "--config", "/etc/jupyterhub/jupyterhub_config.py"], "workingDir": "/srv/jupyterhub",
            "env": [
                {"name": "CONFIGPROXY_AUTH_TOKEN", "value": PROXY_TOKEN},
                {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            ],
            "readinessProbe": {"httpGet": {"path": "/hub/health", "port": 8081}, "periodSeconds": 2},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/jupyterhub"}, {"name": "state", "mountPath": "/srv/jupyterhub"},
                *moorage["extraVolumeMounts"],
            ],
        }  # fmt: skip
        volumes = [
            {"name": "config", "configMap": {"name": "hub"}},
            {"name": "state", "emptyDir": {}},
            *moorage["extraVolumes"],
        ]
        spec = {"serviceAccountName": "hub", "volumes": volumes, "containers": [container], **QUICK}
        policy = {
            "podSelector": {"matchLabels": HUB},
            "policyTypes": ["Ingress"],
            "ingress": [ALLOWED, *moorage["networkPolicy"]["ingress"]],
        }
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "hub"}
        subjects = [{"kind": "ServiceAccount", "name": "hub", "namespace": self.namespace}]
        return [
            self._object("ServiceAccount", "hub"),
            self._object("Role", "hub", "rbac.authorization.k8s.io/v1", rules=KUBESPAWNERS_RULES),
            self._object("RoleBinding", "hub", "rbac.authorization.k8s.io/v1", roleRef=role, subjects=subjects),
            self._object("ConfigMap", "hub", data={"jupyterhub_config.py": configuration}),
            self._object("Pod", "hub", labels=HUB, spec=spec),
            self._service("hub", HUB, 8081, 8081),
            self._object("NetworkPolicy", "hub", "networking.k8s.io/v1", spec=policy),
        ]

    def _proxy(self) -> list[Object]:
        flags = ["--ip=", "--port=8000", "--api-ip=", "--api-port=8001", "--error-target=http://hub:8081/hub/error"]
        container = {
            "name": "chp", "image": self._image("proxy"), "args": ["configurable-http-proxy", *flags], "resources": LITTLE,
            "env": [{"name": "CONFIGPROXY_AUTH_TOKEN", "value": PROXY_TOKEN}],
            "readinessProbe": {"httpGet": {"path": "/_chp_healthz", "port": 8000}, "periodSeconds": 2},
        }  # fmt: skip
        return [
            self._object("Pod", "proxy", labels={**PROXY, **MAY_ASK}, spec={"containers": [container], **QUICK}),
            self._service("proxy-api", PROXY, 8001, 8001),
            self._service("proxy-public", PROXY, 80, 8000),
        ]

    def _service(self, name: str, labels: dict[str, str], port: int, target: int) -> Object:
        return self._object("Service", name, spec={"selector": labels, "ports": [{"port": port, "targetPort": target}]})

    def _object(
        self, kind: str, name: str, version: str = "v1", *, labels: dict[str, str] | None = None, **fields: Any
    ) -> Object:
        metadata = {"name": name, "namespace": self.namespace, "labels": labels or {}}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}

    def logs(self) -> str:
        """Of their hub."""
        return self.kubectl("logs", "hub", "-n", self.namespace)

    def pods_of(self, labels: str) -> list[Object]:
        """In all namespaces."""
        found: list[Object] = json.loads(self.kubectl("get", "pods", "-A", "-l", labels, "-o", "json"))["items"]
        return found
