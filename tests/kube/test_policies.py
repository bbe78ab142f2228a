"""The policies' table, from objects alone."""

from typing import Any

from tests.kube.policies import render, selects

Object = dict[str, Any]


def pod(
    name: str, address: str, *, namespace: str = "ours", ports: list[Object] | None = None, **status: str
) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {
        "metadata": metadata,
        "spec": {"containers": [{"ports": ports or []}]},
        "status": {"podIP": address, "phase": "Running", **status},
    }


def policy(**spec: Any) -> Object:
    return {"metadata": {"namespace": "ours"}, "spec": {"podSelector": {}, **spec}}


def namespace(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}}


WEB = pod("web", "10.244.0.2", ports=[{"name": "http", "containerPort": 8080}])
FRIEND = pod("friend", "10.244.0.3")
OTHER = pod("other", "10.244.0.4", namespace="theirs")
SPACES = [namespace("ours"), namespace("theirs", team="blue")]
TO_WEB = {"podSelector": {"matchLabels": {"app": "web"}}}


def chain(table: str, name: str) -> list[str]:
    """The lines of one chain."""
    _, _, after = table.partition(f"chain {name} {{\n")
    return [line.strip() for line in after.partition("}\n")[0].splitlines() if line.strip() not in {"", "}"}]


def rendered(*policies: Object) -> str:
    return render([WEB, FRIEND, OTHER], SPACES, policies)


def test_without_policies_nobody_is_judged() -> None:
    assert chain(rendered(), "judge") == ["ct state established,related accept"]


def test_a_policy_without_rules_lets_a_pod_reach_only_itself() -> None:
    table = rendered(policy(**TO_WEB))
    assert chain(table, "ingress_10_244_0_2") == ["ip saddr 10.244.0.2 return", "drop"]
    assert "egress" not in table


def test_a_name_of_a_port_is_the_receivers() -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "http"}]}
    table = rendered(policy(**TO_WEB, ingress=[rule]))
    assert "ip saddr { 10.244.0.3 } tcp dport 8080 return" in chain(table, "ingress_10_244_0_2")
    out = {
        "podSelector": {"matchLabels": {"app": "friend"}},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": "http"}]}],
    }
    assert "ip daddr 10.244.0.2 tcp dport 8080 return" in chain(rendered(policy(**out)), "egress_10_244_0_3")


def test_namespaces_are_chosen_by_their_labels() -> None:
    rule = {"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}
    assert "ip saddr { 10.244.0.4 } return" in chain(rendered(policy(**TO_WEB, ingress=[rule])), "ingress_10_244_0_2")


def test_a_block_has_holes_and_ports_have_ranges() -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}}
    rule = {"to": [block], "ports": [{"port": 8000, "endPort": 8010}, {"protocol": "UDP", "port": 53}]}
    lines = chain(rendered(policy(**TO_WEB, policyTypes=["Egress"], egress=[rule])), "egress_10_244_0_2")
    assert "ip daddr 10.0.0.0/8 ip daddr != { 10.9.0.0/16 } tcp dport 8000-8010 return" in lines
    assert "ip daddr 10.0.0.0/8 ip daddr != { 10.9.0.0/16 } udp dport 53 return" in lines


def test_a_peer_that_selects_nobody_allows_nothing() -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}
    lines = chain(rendered(policy(**TO_WEB, ingress=[rule])), "ingress_10_244_0_2")
    assert lines == ["ip saddr 10.244.0.2 return", "drop"]


def test_the_address_of_a_pod_that_ended_is_not_its_any_more() -> None:
    ended = pod("web", "10.244.0.2", phase="Succeeded")
    assert "10.244.0.2" not in render([ended], SPACES, [policy()])


def test_selectors_know_their_operators() -> None:
    def holds(operator: str, *values: str) -> bool:
        return selects(
            {"matchExpressions": [{"key": "app", "operator": operator, "values": list(values)}]}, {"app": "web"}
        )

    assert holds("In", "web")
    assert not holds("NotIn", "web")
    assert holds("Exists")
    assert not holds("DoesNotExist")
