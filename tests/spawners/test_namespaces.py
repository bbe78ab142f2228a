"""A user's namespace: who may reach whom is computed from its policies, as Kubernetes does."""

import base64
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.namespaces import (
    POLICIES,
    ReleaseSettings,
    UserNamespace,
    claim,
    contents,
    objects,
    pull_secret,
    unwanted,
)

USER = UserNamespace(name="moorage-ada-x", owner="us-1 (Ada)", quota={"pods": "20", "requests.cpu": "16"})
RELEASE = ReleaseSettings(
    release="tide", namespace="moorage", managed_by="moorage.tide", workloads_role="tide-workloads", spawner_role="tide-spawner",
    service_account="tide-service", hub_account="tide-hub",
)  # fmt: skip
NOTEBOOK, CLUSTER = {"moorage.dev/kind": "notebook"}, {"moorage.dev/kind": "cluster"}


def of(kind: str, release: ReleaseSettings = RELEASE) -> list[dict[str, Any]]:
    return [each for each in objects(USER, release) if each["kind"] == kind]


def pod(component: str, namespace: str = "moorage") -> dict[str, Any]:
    labels = {"app.kubernetes.io/instance": "tide", "app.kubernetes.io/component": component}
    return {"labels": labels, "namespace": namespace}


def reaches(
    own: dict[str, str],
    peer: dict[str, Any],
    port: int,
    protocol: str = "TCP",
    way: str = "egress",
    release: ReleaseSettings = RELEASE,
) -> bool:
    """May a pod of the user with these labels talk to the peer (way "egress"), or the peer to it ("ingress")?"""
    side = "to" if way == "egress" else "from"
    policies = [
        each["spec"] for each in of("NetworkPolicy", release) if way.capitalize() in each["spec"]["policyTypes"]
    ]
    chosen = [each for each in policies if each["podSelector"].get("matchLabels", {}).items() <= own.items()]
    assert chosen  # else everything would be open
    return any(
        any(_matches(one, peer) for one in rule[side])
        and ("ports" not in rule or {"protocol": protocol, "port": port} in rule["ports"])
        for policy in chosen
        for rule in policy.get(way, ())
    )


def _matches(rule: dict[str, Any], peer: dict[str, Any]) -> bool:
    if "ipBlock" in rule:
        address = ip_address(peer.get("ip", "10.1.2.3"))
        block = rule["ipBlock"]
        return _in(address, block["cidr"]) and not any(_in(address, each) for each in block.get("except", ()))
    if "namespace" not in peer:
        return False
    namespace = rule["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    return bool(namespace == peer["namespace"] and rule["podSelector"]["matchLabels"].items() <= peer["labels"].items())


def _in(address: Any, block: str) -> bool:
    return address.version == ip_network(block).version and address in ip_network(block)


@pytest.mark.parametrize(
    ("peer", "port", "allowed"),
    [
        (pod("service"), 8090, True),
        (pod("service"), 5432, False),
        (pod("hub"), 8081, True),
        (pod("hub"), 8090, False),
        (pod("proxy"), 8001, False),
        (pod("service", "somewhere-else"), 8090, False),
        (pod("database"), 5432, False),
        ({"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}, 53, True),
        ({"namespace": "kube-system", "labels": {"k8s-app": "other"}}, 53, False),
        ({"namespace": "moorage-bob-y", "labels": NOTEBOOK}, 8888, False),
        ({"ip": "140.82.121.4"}, 443, True),
        ({"ip": "2606:50c0:8000::154"}, 443, True),
        ({"ip": "10.96.0.1"}, 443, False),
        ({"ip": "192.168.1.5"}, 10250, False),
        ({"ip": "169.254.169.254"}, 80, False),
        ({"ip": "fd00:ec2::254"}, 80, False),
        ({"ip": "127.0.0.1"}, 80, False),
    ],
)
@pytest.mark.parametrize("own", [NOTEBOOK, CLUSTER])
def test_what_a_users_pod_reaches(own: dict[str, str], peer: dict[str, Any], port: int, allowed: bool) -> None:
    assert reaches(own, peer, port) is allowed


@pytest.mark.parametrize(
    ("own", "peer", "port", "allowed"),
    [
        (NOTEBOOK, pod("proxy"), 8888, True),
        (NOTEBOOK, pod("hub"), 8888, True),
        (NOTEBOOK, pod("proxy"), 22, False),
        (NOTEBOOK, pod("service"), 8888, False),
        (NOTEBOOK, {"namespace": "moorage-bob-y", "labels": NOTEBOOK}, 8888, False),
        (NOTEBOOK, {"ip": "140.82.121.4"}, 8888, False),
        (CLUSTER, pod("proxy"), 8888, False),
        (CLUSTER, {"namespace": "moorage-bob-y", "labels": NOTEBOOK}, 6379, False),
    ],
)
def test_who_reaches_a_users_pod(own: dict[str, str], peer: dict[str, Any], port: int, allowed: bool) -> None:
    assert reaches(own, peer, port, way="ingress") is allowed


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"])
def test_a_clouds_credentials_are_never_reached_whatever_the_settings(address: str) -> None:
    open_wide = replace(RELEASE, denied_ranges=())
    assert reaches(NOTEBOOK, {"ip": "10.1.2.3"}, 80, release=open_wide)
    assert not reaches(NOTEBOOK, {"ip": address}, 80, release=open_wide)


def test_the_world_can_be_closed_and_name_servers_be_addresses() -> None:
    closed = replace(RELEASE, world=False, dns_ranges=("10.200.0.1/32",))
    assert not reaches(NOTEBOOK, {"ip": "140.82.121.4"}, 443, release=closed)
    assert reaches(NOTEBOOK, {"ip": "10.200.0.1"}, 53, "UDP", release=closed)
    assert not reaches(NOTEBOOK, {"ip": "10.200.0.1"}, 443, release=closed)
    with pytest.raises(ManifestError, match="no range of addresses"):
        objects(USER, replace(RELEASE, denied_ranges=("10.0.0.1/8",)))


def test_a_namespace_enforces_restricted_and_says_whose_it_is() -> None:
    (made,) = of("Namespace")
    assert made["metadata"]["name"] == "moorage-ada-x"
    assert made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert made["metadata"]["annotations"] == {"moorage.dev/owner": "us-1 (Ada)"}
    assert objects(USER, RELEASE)[0] == made  # first, for the others go into it
    for each in objects(USER, RELEASE)[1:]:
        assert each["metadata"]["namespace"] == "moorage-ada-x"
    assert {each["metadata"]["labels"]["app.kubernetes.io/managed-by"] for each in objects(USER, RELEASE)} == {
        "moorage"
    }


def test_the_quota_backs_the_ledger_and_forbids_ways_around_the_proxy() -> None:
    (quota,) = of("ResourceQuota")
    assert quota["spec"]["hard"] == {
        "pods": "20", "requests.cpu": "16", "services.nodeports": "0", "services.loadbalancers": "0",
    }  # fmt: skip
    generous = replace(USER, quota={"services.loadbalancers": "9"})
    assert contents(generous, RELEASE)[0]["spec"]["hard"]["services.loadbalancers"] == "0"


def test_service_and_hub_get_one_role_each_and_nobody_else_any() -> None:
    bound = [(each["roleRef"]["kind"], each["roleRef"]["name"], each["subjects"]) for each in of("RoleBinding")]
    assert bound == [
        ("ClusterRole", "tide-workloads", [{"kind": "ServiceAccount", "name": "tide-service", "namespace": "moorage"}]),
        ("ClusterRole", "tide-spawner", [{"kind": "ServiceAccount", "name": "tide-hub", "namespace": "moorage"}]),
    ]


def test_the_registrys_credentials_and_the_home_are_the_users_namespaces() -> None:
    made = pull_secret(USER, b'{"auths": {}}')
    assert (made["type"], made["metadata"]["namespace"]) == ("kubernetes.io/dockerconfigjson", "moorage-ada-x")
    assert base64.b64decode(made["data"][".dockerconfigjson"]) == b'{"auths": {}}'
    home = claim(USER, capacity="10Gi", storage_class="", access_modes=["ReadWriteOnce"])
    assert home["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    assert claim(USER, capacity="1Gi", storage_class="fast", access_modes=[])["spec"]["storageClassName"] == "fast"
    assert home["metadata"]["labels"]["moorage.dev/owner"] == made["metadata"]["labels"]["moorage.dev/owner"]


def test_what_settings_change_is_brought_up_to_date_and_what_they_drop_is_named() -> None:
    quota, bounds, *policies = contents(USER, RELEASE)
    assert (quota["kind"], quota["spec"]["hard"]["pods"], bounds["kind"]) == ("ResourceQuota", "20", "LimitRange")
    names = {each["metadata"]["name"] for each in policies}
    assert names | {each["metadata"]["name"] for each in unwanted(USER, RELEASE)} == set(POLICIES)
    closed = replace(RELEASE, world=False)
    assert "allow-world" in {each["metadata"]["name"] for each in unwanted(USER, closed)}
    assert len(unwanted(USER, replace(RELEASE, policies=False))) == len(POLICIES)
