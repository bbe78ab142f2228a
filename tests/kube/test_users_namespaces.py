"""A user's namespace on a real node, made by the service's own rights and settings, and what its pods reach."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from moorage.wire import Size
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.names import namespace_name
from moorage_spawners.launch.namespaces import UserNamespace, objects
from moorage_spawners.launch.pods import PodSpec, manifest
from tests.kube.commands import run
from tests.kube.kubectl import KubectlRefused
from tests.kube.namespace import SERVE, Namespace
from tests.kube.place import ADDRESS, API_PORT, REGISTRY_PORT
from tests.kube.release import NAME, Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)
SOON = 60.0


@dataclass
class User:
    """A namespace as the service makes it, and pods as the hub does."""

    release: Release
    settings: KubernetesSettings
    namespace: str
    owner: str

    def account(self, part: str) -> str:
        return f"--as=system:serviceaccount:{self.release.namespace}:{NAME}-{part}"

    def make(self, part: str, *manifests: dict[str, Any]) -> None:
        for each in manifests:
            self.release.kubectl("create", self.account(part), "-f", "-", stdin=json.dumps(each))

    def start(self, name: str, argv: tuple[str, ...]) -> str:
        """A notebook's pod, running; its name."""
        whose = Ownership(
            workload_id=name, generation=1, kind="notebook", role="server", owner=self.owner, project="starter"
        )
        spec = PodSpec(
            ownership=whose, namespace=self.namespace, image=self.image(), argv=argv, env={"HOME": "/home/jovyan"},
            size=Size(cpu=0.1, memory=256 << 20), home=self.settings.homes.mount_path,
        )  # fmt: skip
        self.make("hub", manifest(spec, self.settings.pod_settings()))
        eventually(lambda: self.phase(spec.name) == "Running", within=120, what=f"the pod {spec.name}")
        return spec.name

    def image(self) -> str:
        name = f"{self.release.node.registry}/moorage/notebook"
        shown = run(
            ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{name}:test"]
        ).stdout
        return f"{name}@{shown.strip()}"

    def phase(self, pod: str) -> str:
        found = self.release.kubectl.get("pod", pod, self.namespace)
        return "" if found is None else str(found["status"].get("phase"))

    def address(self, pod: str) -> str:
        found = self.release.kubectl.get("pod", pod, self.namespace)
        assert found is not None
        return str(found["status"]["podIP"])

    def connects(self, pod: str, host: str, port: int) -> bool:
        code = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1).close()"
        argv = ["exec", "-n", self.namespace, pod, "--", "python3", "-c", code, host, str(port)]
        return self.release.kubectl.try_run(*argv).returncode == 0


def settings_of(release: Release) -> KubernetesSettings:
    """As the chart tells the service."""
    said = release.kubectl(
        "exec",
        "-n",
        release.namespace,
        f"deploy/{NAME}-service",
        "-c",
        "service",
        "--",
        "cat",
        "/srv/moorage/settings.yaml",
    )
    return KubernetesSettings(**yaml.safe_load(said)["service"]["kubernetes"])


@pytest.fixture(scope="module")
def users(release: Release) -> Iterator[tuple[User, User]]:
    settings = settings_of(release)
    made = []
    try:
        for owner, name in (("us-1", "ada"), ("us-2", "bob")):
            namespace = namespace_name(settings.namespace_prefix, owner, name)
            user = User(release, settings, namespace, owner)
            quota = UserNamespace(name=namespace, owner=owner, quota={"pods": "3"})
            # By the rights of the service's own account: the admission policies look at each.
            own, *rest = objects(quota, replace(settings.release_settings(), dns_ranges=(f"{ADDRESS}/32",)))
            user.make("service", own)
            made.append(user)
            bindings = [each for each in rest if each["kind"] == "RoleBinding"]
            user.make("service", *bindings, *(each for each in rest if each["kind"] != "RoleBinding"))
        yield made[0], made[1]
    finally:
        for user in made:
            release.kubectl("delete", "namespace", user.namespace, "--wait=false")


@pytest.fixture(scope="module")
def notebook(users: tuple[User, User]) -> str:
    return users[0].start("nb-ada", ("python3", "-c", SERVE.format(port=8888)))


def test_a_notebook_reaches_hub_service_and_names_and_nothing_else_of_the_cluster(
    users: tuple[User, User], notebook: str, release: Release
) -> None:
    ada, bob = users
    inside = release.namespace
    for host, port in ((f"{NAME}-hub.{inside}", 8081), (f"{NAME}-service.{inside}", 8090)):
        eventually(lambda host=host, port=port: ada.connects(notebook, host, port), within=SOON, what=f"{host}:{port}")  # type: ignore[misc]
    theirs = bob.start("nb-bob", ("python3", "-c", SERVE.format(port=8888)))
    for host, port in (
        (f"{NAME}-proxy-api.{inside}", 8001), (bob.address(theirs), 8888), (ADDRESS, API_PORT), (ADDRESS, REGISTRY_PORT),
        ("kubernetes.default", 443), ("169.254.169.254", 80),
    ):  # fmt: skip
        assert not ada.connects(notebook, host, port), f"{host}:{port}"


def test_without_the_policies_it_would(users: tuple[User, User], notebook: str, release: Release) -> None:
    """So it is they that hold, and not a network on which nothing answers."""
    ada, _ = users
    policies = release.kubectl.list("networkpolicies", ada.namespace)
    release.kubectl("delete", "networkpolicies", "--all", "-n", ada.namespace)
    try:
        eventually(lambda: ada.connects(notebook, ADDRESS, REGISTRY_PORT), within=SOON, what="the registry")
    finally:
        release.kubectl.apply(
            *(
                {key: each[key] for key in ("apiVersion", "kind", "spec")}
                | {
                    "metadata": {
                        "name": each["metadata"]["name"],
                        "namespace": ada.namespace,
                        "labels": each["metadata"].get("labels", {}),
                    }
                }
                for each in policies
            )
        )
    eventually(lambda: not ada.connects(notebook, ADDRESS, REGISTRY_PORT), within=SOON, what="the policies again")


def test_only_the_proxy_and_the_hub_reach_a_notebook(
    users: tuple[User, User], notebook: str, namespace: Namespace, release: Release
) -> None:
    ada, _ = users
    address = ada.address(notebook)
    namespace.idle("stranger")
    assert not namespace.connects("stranger", address, 8888)
    code = f"import socket; socket.create_connection(('{address}', 8888), timeout=3).close()"
    release.kubectl("exec", "-n", release.namespace, f"deploy/{NAME}-hub", "-c", "hub", "--", "python3", "-c", code)


def test_a_notebooks_pod_holds_no_token_of_the_cluster_and_no_rights(users: tuple[User, User], notebook: str) -> None:
    ada, _ = users
    said = ada.release.kubectl(
        "exec", "-n", ada.namespace, notebook, "--", "sh", "-c", "id -u; ls /var/run/secrets 2>&1; touch /x 2>&1; true"
    )
    assert said.startswith("1000")
    assert "No such file" in said
    assert "Read-only file system" in said


def test_the_quota_is_the_backstop(users: tuple[User, User]) -> None:
    _, bob = users
    for number in (1, 2):
        bob.start(f"nb-{number}", ("sleep", "infinity"))
    with pytest.raises(KubectlRefused, match="exceeded quota"):
        bob.start("nb-3", ("sleep", "infinity"))
