"""What the namespaces hold in which environments are built, read from their manifests: no way that was opened for others."""

from typing import Any

from moorage_images.oci.reference import parse
from moorage_service.projects.platforms import namespace
from tests.cluster_settings import CLUSTER, cluster_settings

REGISTRY = (parse("127.0.0.1:5000/moorage/environments:1"),)
DATA_STORE = {"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}]}
INDEX = {"to": [{"ipBlock": {"cidr": "10.30.0.7/32"}}]}


def policies(**changed: Any) -> dict[str, Any]:
    """Those of a namespace that the service makes, by name."""
    made = namespace.objects(cluster_settings(**changed), "moorage-builds", REGISTRY)
    return {each["metadata"]["name"]: each["spec"] for each in made if each["kind"] == "NetworkPolicy"}


def test_what_is_opened_for_users_pods_is_not_opened_for_packages_code() -> None:
    opened = policies(network_policy={"private_ips": True, "egress": [DATA_STORE]})
    assert opened == policies()
    assert "10.0.0.0/8" in str(opened["allow-world"])
    assert not {"allow-moorage", "allow-proxy"} & set(opened)


def test_what_is_closed_for_users_pods_is_closed_for_builds_but_for_the_world() -> None:
    closed = policies(network_policy={"non_private_ips": False, "blocked_addresses": ["203.0.113.0/24"]})
    (world, _) = closed["allow-world"]["egress"][0]["to"]
    assert {"203.0.113.0/24", "10.0.0.0/8", "169.254.0.0/16"} <= set(world["ipBlock"]["except"])


def test_a_way_that_is_taken_back_is_closed_where_no_policy_may_be_removed() -> None:
    """Each is written over by name: one that is left out would stay."""
    before, after = policies(builds={**CLUSTER["builds"], "egress": [INDEX]}), policies()
    assert before["allow-more"]["egress"] == [INDEX]
    assert after["allow-more"] == {"podSelector": {}, "policyTypes": ["Egress"], "egress": []}
    assert set(before) == set(after)
