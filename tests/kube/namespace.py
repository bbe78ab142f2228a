"""A namespace with what tests make in it: pods by what they run, their logs, connections between them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tests.kube.kubectl import Object
from tests.kube.node import Node
from tests.waiting import eventually

_numbers = itertools.count(1)
SOON = 60.0
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
NO_PRIVILEGES = {
    "runAsNonRoot": True, "runAsUser": 1000, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
SERVE = "import http.server; http.server.ThreadingHTTPServer(('', {port}), http.server.SimpleHTTPRequestHandler).serve_forever()"
CONNECT = (
    "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])).close()"
)


class Namespace:
    def __init__(self, node: Node, labels: Mapping[str, str] | None = None) -> None:
        self.node = node
        self.kubectl = node.kubectl
        self.name = f"test-{next(_numbers)}"
        metadata = {"name": self.name, "labels": dict(labels or {})}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = "serviceaccount default of the namespace"
        eventually(lambda: self.kubectl.get("serviceaccount", "default", self.name), within=SOON, what=account)

    def close(self) -> None:
        """Pods end at once: none of them has anything to say goodbye to."""
        self.kubectl("delete", "pods", "--all", "-n", self.name, "--force", "--grace-period=0")
        self.kubectl("delete", "namespace", self.name, "--wait=false")

    def manifest(
        self, kind: str, name: str, *, version: str = "v1", labels: Mapping[str, str] | None = None, **fields: Any
    ) -> Object:
        metadata = {"name": name, "namespace": self.name, "labels": dict(labels or {})}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}

    def pod(
        self, name: str, command: Sequence[str], *, labels: Mapping[str, str] | None = None, **container: Any
    ) -> Object:
        """The manifest of a pod that passes `restricted`, unless `container` says otherwise."""
        volumes = container.pop("volumes", [])
        pod_spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "volumes": volumes}
        inner = {
            "name": "main", "image": self.node.base_image, "command": list(command), "securityContext": NO_PRIVILEGES, **container,
        }  # fmt: skip
        return self.manifest(
            "Pod", name, labels={"app": name, **(labels or {})}, spec={**pod_spec, "containers": [inner]}
        )

    def run(self, name: str, command: Sequence[str], **container: Any) -> None:
        """A pod, running when this returns."""
        self.kubectl.apply(self.pod(name, command, **container))
        self.await_phase(name, "Running")

    def serve(self, name: str, port: int = 8080, **container: Any) -> str:
        """A pod that answers HTTP on a port; its address."""
        self.run(name, ["python3", "-c", SERVE.format(port=port)], **container)
        eventually(lambda: self.connects(name, "127.0.0.1", port), within=SOON, what=f"an answer of {name}")
        return str(self.get(name)["status"]["podIP"])

    def idle(self, name: str, **container: Any) -> None:
        """A pod in which to run things."""
        self.run(name, ["sleep", "infinity"], **container)

    def get(self, name: str) -> Object:
        found = self.kubectl.get("pod", name, self.name)
        assert found is not None, f"there is no pod {name}"
        return found

    def await_phase(self, name: str, phase: str) -> Object:
        """The pod, in its phase. The failure tells its events."""

        def ask() -> Object | None:
            pod = self.get(name)
            return pod if pod["status"].get("phase") == phase else None

        try:
            return eventually(ask, within=SOON, what=f"phase {phase} of pod {name}")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.get(name)['status']}\n{self.events(name)}") from late

    def execute(self, pod: str, *argv: str) -> str:
        """What it wrote. Raises KubectlRefused when it fails."""
        return self.kubectl("exec", "-n", self.name, pod, "--", *argv)

    def connects(self, pod: str, host: str, port: int, *, patience_s: float = 1.0) -> bool:
        """Whether a TCP connection from inside the pod succeeds."""
        argv = ["exec", "-n", self.name, pod, "--", "python3", "-c", CONNECT, host, str(port), str(patience_s)]
        return self.kubectl.try_run(*argv).returncode == 0

    def logs(self, pod: str) -> str:
        return self.kubectl("logs", "-n", self.name, pod)

    def events(self, pod: str) -> str:
        """Reasons and messages."""
        chosen = [each for each in self.kubectl.list("events", self.name) if each["involvedObject"]["name"] == pod]
        return "\n".join(f"{each['reason']}: {each['message']}" for each in chosen)

    def delete(self, kind: str, name: str) -> None:
        """Gone when it returns."""
        self.kubectl("delete", kind, name, "-n", self.name)

    def service(self, name: str, port: int, target: int) -> None:
        spec = {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]}
        self.kubectl.apply(self.manifest("Service", name, spec=spec))

    def claim(self, name: str, size: str = "1Gi") -> None:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        self.kubectl.apply(self.manifest("PersistentVolumeClaim", name, spec=spec))

    def policy(self, name: str, spec: Mapping[str, Any]) -> None:
        self.kubectl.apply(self.manifest("NetworkPolicy", name, version="networking.k8s.io/v1", spec=dict(spec)))
