"""The node is real: what the product will rely on works, and bites where it must."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube import gpus, images, remains
from tests.kube.journal import Journal
from tests.kube.kubectl import KubectlRefused
from tests.kube.namespace import RESTRICTED, Namespace
from tests.kube.node import Node
from tests.kube.place import CHECKOUT, NODE_NAME, STORAGE_CLASS
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(2400)  # the first test of a run may build everything
SOON = 60.0


def test_the_node_is_ready_at_its_version(node: Node) -> None:
    found = node.kubectl.get("node", NODE_NAME)
    assert found is not None
    ready = [each for each in found["status"]["conditions"] if each["type"] == "Ready"]
    assert [each["status"] for each in ready] == ["True"]
    assert found["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"


def test_a_pod_runs_and_its_log_and_commands_are_reached(namespace: Namespace) -> None:
    namespace.run("greeter", ["sh", "-c", "echo ahoy; exec sleep infinity"])
    eventually(lambda: namespace.logs("greeter") == "ahoy\n", within=SOON, what="the log")
    assert namespace.execute("greeter", "id", "-u") == "1000\n"
    with pytest.raises(KubectlRefused):
        namespace.execute("greeter", "false")


def test_a_service_is_found_by_its_name(namespace: Namespace) -> None:
    namespace.serve("web")
    namespace.service("web", port=80, target=8080)
    namespace.idle("caller")
    eventually(lambda: namespace.connects("caller", "web", 80), within=SOON, what="a connection")
    assert namespace.connects("caller", f"web.{namespace.name}.svc.cluster.local", 80)
    assert not namespace.connects("caller", f"nobody.{namespace.name}.svc.cluster.local", 80)


def test_a_service_address_that_nobody_has_is_refused_at_once(namespace: Namespace) -> None:
    namespace.idle("caller")
    code = "import socket\ntry: socket.create_connection(('10.96.77.77', 80), timeout=20)\nexcept ConnectionRefusedError: print('refused')"
    assert namespace.execute("caller", "python3", "-c", code) == "refused\n"


def test_the_api_server_is_reached_from_a_pod_with_its_own_token(namespace: Namespace) -> None:
    namespace.idle("caller")
    code = (
        "import ssl, urllib.request as r; d = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "q = r.Request('https://kubernetes.default/version', headers={'Authorization': 'Bearer ' + open(d + 'token').read()})\n"
        "print(r.urlopen(q, context=ssl.create_default_context(cafile=d + 'ca.crt')).status)"
    )
    assert namespace.execute("caller", "python3", "-c", code) == "200\n"


def test_a_volume_keeps_its_data_from_one_pod_to_the_next(namespace: Namespace) -> None:
    namespace.claim("home")
    mounted = {
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
        "volumeMounts": [{"name": "home", "mountPath": "/home/ada"}],
    }
    namespace.idle("first", **mounted)
    claim = namespace.kubectl.get("persistentvolumeclaim", "home", namespace.name)
    assert claim is not None
    assert claim["status"]["phase"] == "Bound"
    assert claim["spec"]["storageClassName"] == STORAGE_CLASS
    namespace.execute("first", "sh", "-c", "echo kept > /home/ada/note")
    namespace.delete("pod", "first")
    namespace.idle("second", **mounted)
    assert namespace.execute("second", "cat", "/home/ada/note") == "kept\n"


def test_a_policy_of_ingress_bites_and_lets_go(namespace: Namespace) -> None:
    address = namespace.serve("web")
    namespace.idle("friend")
    namespace.idle("stranger")
    assert namespace.connects("friend", address, 8080)
    assert namespace.connects("stranger", address, 8080)
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 8080}]}
    namespace.policy("friends", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [rule]})
    eventually(lambda: not namespace.connects("stranger", address, 8080), within=SOON, what="the policy")
    assert namespace.connects("friend", address, 8080)
    namespace.delete("networkpolicy", "friends")
    eventually(lambda: namespace.connects("stranger", address, 8080), within=SOON, what="the end of the policy")


def test_a_policy_of_egress_keeps_a_pod_from_pods_and_from_the_node(namespace: Namespace) -> None:
    address = namespace.serve("web")
    namespace.idle("caller")
    registry, _, port = namespace.node.registry.partition(":")
    assert namespace.connects("caller", address, 8080)
    assert namespace.connects("caller", registry, int(port))
    namespace.policy("alone", {"podSelector": {"matchLabels": {"app": "caller"}}, "policyTypes": ["Egress"]})
    eventually(lambda: not namespace.connects("caller", address, 8080), within=SOON, what="the policy")
    assert not namespace.connects("caller", registry, int(port))
    namespace.delete("networkpolicy", "alone")
    eventually(lambda: namespace.connects("caller", address, 8080), within=SOON, what="the end of the policy")


def test_pod_security_refuses_what_is_privileged(node: Node) -> None:
    namespace = Namespace(node, labels=RESTRICTED)
    try:
        with pytest.raises(KubectlRefused, match="violates PodSecurity"):
            namespace.kubectl.apply(namespace.pod("root", ["true"], securityContext={"privileged": True}))
        namespace.kubectl.apply(namespace.pod("plain", ["true"]))
        namespace.await_phase("plain", "Succeeded")
    finally:
        namespace.close()


@pytest.fixture
def two_gpus(node: Node) -> Iterator[None]:
    gpus.pretend(node.kubectl, 2, "NVIDIA-Pretend")
    try:
        yield
    finally:
        gpus.remove(node.kubectl)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_is_given_once(namespace: Namespace) -> None:
    wish: dict[str, Any] = {"resources": {"limits": {gpus.RESOURCE: "2"}}}
    namespace.idle("first", **wish)
    namespace.kubectl.apply(namespace.pod("second", ["true"], **wish))
    eventually(
        lambda: f"Insufficient {gpus.RESOURCE}" in namespace.events("second"),
        within=SOON,
        what="the scheduler's reason",
    )
    assert namespace.get("second")["status"]["phase"] == "Pending"
    namespace.delete("pod", "first")
    namespace.await_phase("second", "Succeeded")


def test_an_image_comes_from_the_local_registry(namespace: Namespace) -> None:
    source, copy = namespace.node.base_image, f"{namespace.node.registry}/copies/fresh:1"
    argv = [*images.COPY, "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{source}", f"docker://{copy}"]
    subprocess.run(argv, check=True)
    namespace.run("fresh", ["sleep", "infinity"], image=copy, imagePullPolicy="Always")
    assert "Pulled" in namespace.events("fresh")
    namespace.kubectl.apply(namespace.pod("absent", ["true"], image=f"{namespace.node.registry}/absent:1"))
    eventually(lambda: "Failed to pull image" in namespace.events("absent"), within=SOON, what="the reason")


def test_a_node_whose_keeper_is_killed_is_cleared_and_another_comes_up(node: Node) -> None:
    node.down()
    assert_nothing_left(node)
    code = "from tests.kube.node import Node; Node().up()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT) as keeper:
        journal = Journal(node.place.journal)
        eventually(
            lambda: any(each["name"] == "kubelet" for each in journal.entries("process")),
            within=SOON,
            what="its kubelet",
        )
        os.kill(keeper.pid, signal.SIGKILL)
    assert remains.find(node.place)["processes"]
    node.up()
    test_the_node_is_ready_at_its_version(node)


def test_down_leaves_nothing(node: Node) -> None:
    namespace = Namespace(node)
    namespace.serve("web")
    namespace.service("web", port=80, target=8080)
    namespace.policy("closed", {"podSelector": {}})
    found = remains.find(node.place)
    assert found["processes"]
    assert found["links"]
    assert found["chains"]
    assert found["cgroups"]
    node.down()
    assert_nothing_left(node)
    node.up()
    test_the_node_is_ready_at_its_version(node)


def assert_nothing_left(node: Node) -> None:
    assert {kind: left for kind, left in remains.find(node.place).items() if left} == {}
