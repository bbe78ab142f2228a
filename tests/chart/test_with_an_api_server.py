"""The chart in a real API server: what it keeps over upgrades, and what the service's account can do there and what not."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chart.api_server import ApiServer, missing, running
from tests.chart.rendering import CHART, Chart, Object
from tests.waiting import eventually

NAMESPACE = "moorage-system"
HUB, SERVICE = f"{NAMESPACE}:moorage-hub", f"{NAMESPACE}:moorage-service"
LABEL, OURS = "moorage.dev/managed-by", "moorage-system.moorage"
ENFORCE = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True)
class Cluster:
    server: ApiServer
    helm: Path

    def run(self, *arguments: str) -> str:
        """Helm, on the release's namespace. What it says, warnings too."""
        done = subprocess.run(
            [str(self.helm), *arguments, "--namespace", NAMESPACE],
            env={**os.environ, "KUBECONFIG": str(self.server.kubeconfig)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def get(self, path: str) -> Object:
        answer = self.server.ask("GET", path)
        answer.raise_for_status()
        found: Object = answer.json()
        return found

    def tokens(self) -> Object:
        found: Object = self.get(f"api/v1/namespaces/{NAMESPACE}/secrets/moorage-tokens")["data"]
        return found

    def generation(self, part: str) -> int:
        return int(
            self.get(f"apis/apps/v1/namespaces/{NAMESPACE}/deployments/moorage-{part}")["metadata"]["generation"]
        )


def namespace(name: str, label: str = OURS, enforce: str = "restricted") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {LABEL: label, ENFORCE: enforce}},
    }


def binding(name: str, where: str, role: str, account: str, kind: str = "ClusterRole") -> Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": where},
        "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }


@pytest.fixture(scope="module")
def cluster(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With Moorage installed, without its hooks: nothing would run them."""
    if (part := missing()) is not None:
        pytest.skip(f"{part} is missing; there is no API server to install into")
    with running(tmp_path_factory.mktemp("api-server")) as server:
        made = Cluster(server, chart.helm)
        own = namespace(NAMESPACE)
        own["metadata"]["labels"] = {ENFORCE: "restricted", "pod-security.kubernetes.io/warn": "restricted"}
        server.create(own).raise_for_status()
        said = made.run("install", "moorage", str(CHART), "--no-hooks")
        assert "Warning" not in said, "of Pod Security, or of a field that there is not"
        wait_for_the_policies(server)
        server.create(namespace("moorage-ada"), account=SERVICE).raise_for_status()
        server.create(namespace("moorage-of-others", label="other.moorage")).raise_for_status()
        yield made


def wait_for_the_policies(server: ApiServer) -> None:
    """They hold a moment after they are made. A dry run asks them and changes nothing."""
    asks: dict[str, Object] = {
        "api/v1/namespaces": namespace("elsewhere"),
        "apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings": binding(
            "b", "default", "moorage-workloads", "moorage-service"
        ),
    }
    for path, body in asks.items():
        eventually(partial(_refused, server, f"{path}?dryRun=All", body), what="the admission policies")


def _refused(server: ApiServer, path: str, body: Object) -> bool:
    return not server.ask("POST", path, account=SERVICE, body=body).is_success


def test_keys_stay_over_an_upgrade_which_leaves_the_proxy_alone(cluster: Cluster) -> None:
    keys, proxy, hub = cluster.tokens(), cluster.generation("proxy"), cluster.generation("hub")
    cluster.run("upgrade", "moorage", str(CHART), "--no-hooks", "--set", f"hub.settings.poll_s={hub + 100}")
    assert cluster.tokens() == keys
    assert cluster.generation("proxy") == proxy
    assert cluster.generation("hub") == hub + 1


def test_a_key_that_an_older_release_did_not_have_is_added(cluster: Cluster) -> None:
    keys = cluster.tokens()
    path = f"api/v1/namespaces/{NAMESPACE}/secrets/moorage-tokens"
    secret = cluster.get(path)
    del secret["data"]["auth-state-key"]
    cluster.server.ask("PUT", path, body=secret).raise_for_status()
    cluster.run("upgrade", "moorage", str(CHART), "--no-hooks")
    now = cluster.tokens()
    assert now.pop("auth-state-key") != keys.pop("auth-state-key")
    assert now == keys


Ask = Callable[[ApiServer], httpx.Response]
REFUSED: dict[str, tuple[Ask, str]] = {
    "a namespace that is not marked as ours": (
        lambda server: server.create(namespace("moorage-bob", label="other.moorage"), account=SERVICE),
        "touches only namespaces with the label",
    ),
    "a namespace of any name": (
        lambda server: server.create(namespace("bob"), account=SERVICE),
        "whose name begins with moorage-",
    ),
    "a namespace for privileged pods": (
        lambda server: server.create(namespace("moorage-bob", enforce="privileged"), account=SERVICE),
        "enforce Pod Security restricted",
    ),
    "the end of its own namespace": (
        lambda server: server.ask("DELETE", f"api/v1/namespaces/{NAMESPACE}", account=SERVICE),
        "touches only namespaces with the label",
    ),
    "the end of somebody's namespace": (
        lambda server: server.ask("DELETE", "api/v1/namespaces/moorage-of-others", account=SERVICE),
        "touches only namespaces with the label",
    ),
    "a foreign namespace made its own": (
        lambda server: server.ask("PUT", "api/v1/namespaces/moorage-of-others", account=SERVICE, body=namespace("moorage-of-others")),
        "cannot update resource",
    ),
    "rights in kube-system": (
        lambda server: server.create(binding("b", "kube-system", "moorage-workloads", "moorage-service"), account=SERVICE),
        "binds roles only in namespaces with the label",
    ),
    "rights among the keys": (
        lambda server: server.create(binding("b", NAMESPACE, "moorage-workloads", "moorage-service"), account=SERVICE),
        "binds roles only in namespaces with the label",
    ),
    "a role of the cluster's admin": (
        lambda server: server.create(binding("b", "moorage-ada", "cluster-admin", "moorage-service"), account=SERVICE),
        "attempting to grant RBAC permissions not currently held",
    ),
    "users' secrets for the hub": (
        lambda server: server.create(binding("b", "moorage-ada", "moorage-workloads", "moorage-hub"), account=SERVICE),
        "binds the spawner's role to the hub's account",
    ),
    "users' pods for a user": (
        lambda server: server.create(binding("b", "moorage-ada", "moorage-spawner", "default"), account=SERVICE),
        "binds the spawner's role to the hub's account",
    ),
    "a namespace by the hub": (
        lambda server: server.create(namespace("moorage-bob"), account=HUB),
        "cannot create resource",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_the_cluster_refuses(cluster: Cluster, case: str) -> None:
    ask, words = REFUSED[case]
    answer = ask(cluster.server)
    assert answer.status_code in (403, 422), answer.text
    assert words in answer.json()["message"]


def test_in_a_users_namespace_each_gets_its_own_rights_and_nowhere_else(cluster: Cluster) -> None:
    server = cluster.server
    for name, role, account in (
        ("workloads", "moorage-workloads", "moorage-service"),
        ("spawner", "moorage-spawner", "moorage-hub"),
    ):
        server.create(binding(name, "moorage-ada", role, account), account=SERVICE).raise_for_status()
    allowed: list[tuple[str, str, str]] = [
        (SERVICE, "create", "pods"), (SERVICE, "create", "secrets"), (SERVICE, "patch", "networking.k8s.io/networkpolicies"),
        (HUB, "create", "pods"), (HUB, "create", "persistentvolumeclaims"),
    ]  # fmt: skip
    for account, verb, resource in allowed:
        eventually(partial(server.may, account, verb, resource, "moorage-ada"), what=f"{account}: {verb} {resource}")
        for elsewhere in ("kube-system", NAMESPACE, ""):
            assert not server.may(account, verb, resource, elsewhere), (account, verb, resource, elsewhere)
    for verb, resource in (
        ("get", "secrets"),
        ("delete", "persistentvolumeclaims"),
        ("create", "rbac.authorization.k8s.io/rolebindings"),
    ):
        assert not server.may(HUB, verb, resource, "moorage-ada"), (verb, resource)


def test_a_users_namespace_ends_when_the_service_says_so(cluster: Cluster) -> None:
    cluster.server.create(namespace("moorage-leaver"), account=SERVICE).raise_for_status()
    answer = cluster.server.ask("DELETE", "api/v1/namespaces/moorage-leaver", account=SERVICE)
    assert answer.json()["status"]["phase"] == "Terminating"


def test_others_are_not_held_by_our_policies(cluster: Cluster) -> None:
    other: dict[str, Any] = namespace("whatever", label="x", enforce="baseline")
    cluster.server.create(other).raise_for_status()


def test_what_people_made_outlives_the_release(cluster: Cluster) -> None:
    """The last: the release is gone after it."""
    keys = cluster.tokens()
    cluster.run("uninstall", "moorage", "--no-hooks")
    assert cluster.tokens() == keys
    claims = cluster.get(f"api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims")["items"]
    assert {each["metadata"]["name"] for each in claims} == {"moorage-hub", "moorage-service"}
    assert (
        cluster.server.ask("GET", "apis/rbac.authorization.k8s.io/v1/clusterroles/moorage-service").status_code == 404
    )
    cluster.run("install", "moorage", str(CHART), "--no-hooks")
    assert cluster.tokens() == keys, "installed again, it finds its keys"
