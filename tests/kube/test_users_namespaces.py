"""A user's namespace on a real node, made by the service's own rights and settings, and what its pods reach."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
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
from tests.kube.place import ADDRESS, API_PORT, BRIDGE, PODS, REGISTRY_PORT
from tests.kube.release import NAME, Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)
SOON = 60.0
Target = tuple[str, int]
KUBELET_PORT = 10250
GATEWAY = str(next(ip_network(PODS).hosts()))  # the node, as its pods see it
METADATA_LIKE = "169.254.170.2"  # in the range where clouds keep credentials, and nobody's on this machine
TRY = """
import concurrent.futures, json, socket, sys

def outcome(target):
    try:
        address = socket.gethostbyname(target[0])
        socket.create_connection((address, target[1]), timeout=2).close()
    except TimeoutError:
        return "silent"
    except OSError as error:
        return repr(error)
    return "open"

targets = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(targets)) as all_at_once:
    print(json.dumps(list(all_at_once.map(outcome, targets))))
"""


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

    def tries(self, pod: str, targets: Mapping[str, Target]) -> dict[str, str]:
        """What comes of a TCP connection from inside the pod to each: "open", "silent", or whatever else was answered."""
        argv = ["exec", "-n", self.namespace, pod, "--", "python3", "-c", TRY, json.dumps(list(targets.values()))]
        return dict(zip(targets, json.loads(self.release.kubectl(*argv)), strict=True))


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


@pytest.fixture(scope="module")
def database(release: Release) -> Iterator[Namespace]:
    """Another's namespace, which nothing closes, with something that listens where a database does."""
    own = Namespace(release.node)
    try:
        own.serve("database", 5432)
        yield own
    finally:
        own.close()


@pytest.fixture(scope="module")
def targets(users: tuple[User, User], database: Namespace, release: Release) -> Iterator[dict[str, Target]]:
    """What no notebook may reach, by what it is. All of it listens."""
    bob, inside = users[1], release.namespace
    theirs = bob.start("nb-bob", ("python3", "-c", SERVE.format(port=8888)))
    with listening(METADATA_LIKE) as port:
        yield {
            "another user's notebook": (bob.address(theirs), 8888),
            "a database": (str(database.get("database")["status"]["podIP"]), 5432),
            "the proxy's API": (f"{NAME}-proxy-api.{inside}", 8001),
            "the proxy": (f"{NAME}-proxy-public.{inside}", 80),
            "the API server": ("kubernetes.default", 443),
            "the API server at its machine": (ADDRESS, API_PORT),
            "the kubelet": (ADDRESS, KUBELET_PORT),
            "the registry": (ADDRESS, REGISTRY_PORT),
            "what listens at the node's address": (ADDRESS, port),
            "what listens at the pods' gateway": (GATEWAY, port),
            "where clouds keep credentials": (METADATA_LIKE, port),
        }


def test_a_notebook_reaches_hub_service_and_names_and_nothing_else_of_the_cluster(
    users: tuple[User, User], notebook: str, targets: dict[str, Target], release: Release
) -> None:
    ada, inside = users[0], release.namespace
    allowed = {"hub": (f"{NAME}-hub.{inside}", 8081), "service": (f"{NAME}-service.{inside}", 8090)}
    eventually(lambda: set(ada.tries(notebook, allowed).values()) == {"open"}, within=SOON, what="hub and service")
    more = {"a cloud's credentials": ("169.254.169.254", 80)}
    assert ada.tries(notebook, {**targets, **more}) == dict.fromkeys([*targets, *more], "silent")


def test_without_the_policies_it_would(
    users: tuple[User, User], notebook: str, targets: dict[str, Target], release: Release
) -> None:
    """So it is they that hold, and not a network on which nothing answers."""
    ada, bob = users
    closed = [(ada.namespace, "--all"), (bob.namespace, "--all"), (release.namespace, f"{NAME}-proxy")]
    with without_policies(release, closed):
        opened = dict.fromkeys(targets, "open")
        eventually(lambda: ada.tries(notebook, targets) == opened, within=SOON, what=f"all of {opened}")
    again = dict.fromkeys(targets, "silent")
    eventually(lambda: ada.tries(notebook, targets) == again, within=SOON, what="the policies again")


@contextmanager
def without_policies(release: Release, which: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Namespace and name of each; they are there again afterwards."""
    taken = [
        each
        for namespace, name in which
        for each in release.kubectl.list("networkpolicies", namespace)
        if name in ("--all", each["metadata"]["name"])
    ]
    for namespace, name in which:
        release.kubectl("delete", "networkpolicies", name, "-n", namespace)
    try:
        yield
    finally:
        kept = ("name", "namespace", "labels", "annotations")
        release.kubectl.apply(
            *(
                {
                    **{key: each[key] for key in ("apiVersion", "kind", "spec")},
                    "metadata": {key: value for key, value in each["metadata"].items() if key in kept},
                }
                for each in taken
            )
        )


@contextmanager
def listening(address: str) -> Iterator[int]:
    """A port that is open at all addresses of this machine, of which `address` is one meanwhile: at most until the node's bridge goes."""
    run(["ip", "address", "add", f"{address}/32", "dev", BRIDGE])
    try:
        with socket.create_server(("", 0), backlog=128) as listener:
            yield listener.getsockname()[1]
    finally:
        run(["ip", "address", "del", f"{address}/32", "dev", BRIDGE])


def test_only_the_proxy_and_the_hub_reach_a_notebook(
    users: tuple[User, User], notebook: str, namespace: Namespace, release: Release
) -> None:
    ada, _ = users
    address = ada.address(notebook)
    namespace.idle("stranger")
    assert not namespace.connects("stranger", address, 8888)
    code = f"import socket; socket.create_connection(('{address}', 8888), timeout=3).close()"
    release.in_hub("python3", "-c", code)


def test_a_notebooks_pod_holds_no_token_of_the_cluster_and_no_rights(users: tuple[User, User], notebook: str) -> None:
    ada, _ = users
    said = ada.release.kubectl(
        "exec", "-n", ada.namespace, notebook, "--", "sh", "-c", "id -u; ls /var/run/secrets 2>&1; touch /x 2>&1; true"
    )
    assert said.startswith("1000")
    assert "No such file" in said
    assert "Read-only file system" in said


def test_nor_has_its_account_any_rights(users: tuple[User, User]) -> None:
    """Whoever gets hold of it sets no label, annotation or quota: it may ask who it is, and what it may, as everybody."""
    ada, _ = users
    account = f"--as=system:serviceaccount:{ada.namespace}:default"
    asked = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": ada.namespace}
    }  # fmt: skip
    argv = [
        "create",
        account,
        "--validate=false",
        "-o",
        "json",
        "-f",
        "-",
    ]  # it may not even see what could be validated by
    said = json.loads(ada.release.kubectl(*argv, stdin=json.dumps(asked)))
    rules = said["status"]["resourceRules"]
    assert {resource for rule in rules for resource in rule["resources"] if set(rule["verbs"]) - {"get", "list", "watch"}} == {
        "selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews",
    }  # fmt: skip
    assert not [rule for rule in rules if "" in rule["apiGroups"]], "pods, secrets, quotas"
    for verb, kind in (("patch", "pods"), ("update", "resourcequotas"), ("patch", "namespaces"), ("get", "secrets")):
        assert ada.release.kubectl.try_run("auth", "can-i", verb, kind, "-n", ada.namespace, account).returncode != 0


@pytest.mark.usefixtures("targets")  # of which one is a pod of bob's
def test_the_quota_is_the_backstop(users: tuple[User, User]) -> None:
    _, bob = users
    for number in (1, 2):
        bob.start(f"nb-{number}", ("sleep", "infinity"))
    with pytest.raises(KubectlRefused, match="exceeded quota"):
        bob.start("nb-3", ("sleep", "infinity"))
