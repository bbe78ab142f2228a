"""Who may do what in the cluster, read from the rendered roles: the least that works."""

import re
from typing import Any

import pytest

from tests.chart.examples import EXAMPLES
from tests.chart.rendering import Chart, Object, Rendered

CLUSTERED = sorted(name for name, values in EXAMPLES.items() if "rbac" not in values)
NAMESPACED = EXAMPLES["namespaced"]
RBAC_ROLES = ("ClusterRole", "Role")
LABEL = "moorage.dev/managed-by"


def rules(rendered: Rendered) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{kind}/{role['metadata']['name']}", rule)
        for kind in RBAC_ROLES
        for role in rendered.of(kind)
        for rule in role["rules"]
    ]


def bound_to(rendered: Rendered, account: str) -> list[Object]:
    """Bindings of a ServiceAccount of the release."""
    bindings = [*rendered.of("ClusterRoleBinding"), *rendered.of("RoleBinding")]
    return [each for each in bindings if any(subject["name"] == account for subject in each["subjects"])]


def verbs_on(role: Object, resource: str) -> set[str]:
    return {verb for rule in role["rules"] if resource in rule["resources"] for verb in rule["verbs"]}


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_rule_has_a_wildcard_or_raises_rights(chart: Chart, example: str) -> None:
    found = rules(chart.render(EXAMPLES[example]))
    assert found
    for name, rule in found:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], name
        assert not {"escalate", "impersonate", "deletecollection"} & set(rule["verbs"]), name
        assert not rule.get("nonResourceURLs"), name
        if "bind" in rule["verbs"]:
            assert rule["verbs"] == ["bind"], name
            assert sorted(rule["resourceNames"]) == ["moorage-spawner", "moorage-workloads"], name


@pytest.mark.parametrize("example", EXAMPLES)
def test_nobody_reads_the_secrets_of_the_cluster(chart: Chart, example: str) -> None:
    rendered = chart.render(EXAMPLES[example])
    everywhere = {binding["roleRef"]["name"] for binding in rendered.of("ClusterRoleBinding")}
    for role in rendered.of("ClusterRole"):
        if role["metadata"]["name"] in everywhere:
            touched = {resource for rule in role["rules"] for resource in rule["resources"]}
            assert touched == {"namespaces", "rolebindings", "clusterroles"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_nothing_is_bound_in_the_releases_own_namespace_but_the_hooks_look_at_its_daemon_set(
    chart: Chart, example: str
) -> None:
    rendered = chart.render(EXAMPLES[example])
    own = [role for role in rendered.of("Role") if role["metadata"]["namespace"] == chart.namespace]
    for role in own:
        assert role["rules"] == [
            {
                "apiGroups": ["apps"],
                "resources": ["daemonsets"],
                "verbs": ["get"],
                "resourceNames": ["moorage-image-puller-hook"],
            }
        ]
    bindings = [each for each in rendered.of("RoleBinding") if each["metadata"]["namespace"] == chart.namespace]
    assert {each["roleRef"]["name"] for each in bindings} <= {"moorage-image-puller-hook"}
    assert {subject["name"] for each in bindings for subject in each["subjects"]} <= {"moorage-image-puller-hook"}


@pytest.mark.parametrize("example", CLUSTERED)
def test_the_hub_is_bound_to_nothing(chart: Chart, example: str) -> None:
    rendered = chart.render(EXAMPLES[example])
    assert rendered.one("Deployment", "moorage-hub")["spec"]["template"]["spec"]["serviceAccountName"] == "moorage-hub"
    assert bound_to(rendered, "moorage-hub") == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_the_hub_may_in_users_namespaces_has_no_secrets(chart: Chart, example: str) -> None:
    rendered = chart.render(EXAMPLES[example])
    roles = [role for kind in RBAC_ROLES for role in rendered.of(kind) if role["metadata"]["name"] == "moorage-spawner"]
    assert roles
    for role in roles:
        touched = {resource for rule in role["rules"] for resource in rule["resources"]}
        assert touched == {"pods", "persistentvolumeclaims", "events"}
        assert verbs_on(role, "pods") == {"create", "get", "list", "watch", "delete"}
        assert "delete" not in verbs_on(role, "persistentvolumeclaims"), "homes belong to users"


@pytest.mark.parametrize("example", CLUSTERED)
def test_in_the_cluster_the_service_makes_namespaces_and_binds_two_roles(chart: Chart, example: str) -> None:
    rendered = chart.render(EXAMPLES[example])
    role = rendered.one("ClusterRole", "moorage-service")
    assert verbs_on(role, "namespaces") == {"create", "get", "list", "watch", "delete"}
    assert verbs_on(role, "rolebindings") == {"create", "get"}
    assert verbs_on(role, "clusterroles") == {"bind"}
    assert [each["roleRef"]["name"] for each in bound_to(rendered, "moorage-service")] == ["moorage-service"]


def test_operators_objects_are_the_services_only_where_the_operators_are(chart: Chart) -> None:
    plain, cloud = chart.render(), chart.render(EXAMPLES["cloud"])
    groups = {group for rule in plain.one("ClusterRole", "moorage-workloads")["rules"] for group in rule["apiGroups"]}
    more = {group for rule in cloud.one("ClusterRole", "moorage-workloads")["rules"] for group in rule["apiGroups"]}
    assert more - groups == {"ray.io", "kubernetes.dask.org"}


@pytest.mark.parametrize("example", CLUSTERED)
def test_admission_confines_the_service_to_its_namespaces(chart: Chart, example: str) -> None:
    rendered = chart.render(EXAMPLES[example])
    account = "system:serviceaccount:moorage-system:moorage-service"
    covered: dict[str, set[str]] = {}
    for policy in rendered.of("ValidatingAdmissionPolicy"):
        spec, name = policy["spec"], policy["metadata"]["name"]
        assert spec["failurePolicy"] == "Fail"
        assert [each["expression"] for each in spec["matchConditions"]] == [f"request.userInfo.username == '{account}'"]
        binding = rendered.one("ValidatingAdmissionPolicyBinding", name)
        assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}
        for rule in spec["matchConstraints"]["resourceRules"]:
            covered |= {resource: set(rule["operations"]) for resource in rule["resources"]}
        assert f"['{LABEL}'] == 'moorage-system.moorage'" in spec["validations"][0]["expression"]
    # A right of the service that changes something is one that a policy looks at.
    needed = {"create": "CREATE", "delete": "DELETE", "update": "UPDATE", "patch": "UPDATE"}
    role = rendered.one("ClusterRole", "moorage-service")
    for resource in ("namespaces", "rolebindings"):
        assert {needed[verb] for verb in verbs_on(role, resource) if verb in needed} <= covered[resource]


def test_service_and_network_policies_know_a_users_namespace_by_the_same_label(chart: Chart) -> None:
    rendered = chart.render()
    settings = rendered.settings("service")["kubernetes"]
    policy = rendered.one("NetworkPolicy", "moorage-service")
    selectors = [
        peer["namespaceSelector"]["matchLabels"]
        for peer in policy["spec"]["ingress"][0]["from"]
        if "namespaceSelector" in peer
    ]
    assert selectors == [{LABEL: settings["managed_by"]}]
    text = str(rendered.of("ValidatingAdmissionPolicy"))
    assert f"startsWith('{settings['namespace_prefix']}-')" in text


@pytest.mark.parametrize("release", ["m", "a" * 53, "moorage-" + "x" * 45, "with.dots"])
@pytest.mark.parametrize("namespace", ["n", "b" * 63])
def test_the_label_is_a_valid_value_and_one_releases_alone(chart: Chart, release: str, namespace: str) -> None:
    first, second = (
        managed_by(Chart(chart.helm, release=name, namespace=namespace)) for name in (release, release[:-1] + "z")
    )
    assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", first)
    assert first != second


def managed_by(chart: Chart) -> str:
    policies = chart.render().of("ValidatingAdmissionPolicy")
    found = set(re.findall(rf"{LABEL}'\] == '([^']+)'", str(policies).replace("\\'", "'")))
    assert len(found) == 1
    return str(found.pop())


def test_namespaced_makes_nothing_of_the_cluster_and_binds_in_the_named_namespaces_only(chart: Chart) -> None:
    rendered = chart.render(NAMESPACED)
    assert [
        f"{each['kind']}/{each['metadata']['name']}" for each in rendered.objects if "namespace" not in each["metadata"]
    ] == []
    assert {each["kind"] for each in rendered.objects} & {"ClusterRole", "ClusterRoleBinding", "PriorityClass"} == set()
    for account, role in (("moorage-hub", "moorage-spawner"), ("moorage-service", "moorage-workloads")):
        bindings = bound_to(rendered, account)
        assert {each["metadata"]["namespace"] for each in bindings} == {"team-a", "team-b"}
        assert {(each["roleRef"]["kind"], each["roleRef"]["name"]) for each in bindings} == {("Role", role)}
    assert rendered.settings("service")["kubernetes"]["namespaces"] == ["team-a", "team-b"]


def test_a_namespace_for_builds_alone_is_the_services_and_not_the_hubs(chart: Chart) -> None:
    rendered = chart.render({**NAMESPACED, "builds": {"namespace": "team-builds"}})
    places = {
        account: {each["metadata"]["namespace"] for each in bound_to(rendered, account)}
        for account in ("moorage-hub", "moorage-service")
    }
    assert places["moorage-service"] - places["moorage-hub"] == {"team-builds"}
    assert rendered.settings("service")["kubernetes"]["builds"]["namespace"] == "team-builds"


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["cluster", "namespaced"])
def test_where_debian_packages_are_installed_the_service_has_what_that_takes_and_the_hub_nothing(
    chart: Chart, values: dict[str, Any]
) -> None:
    plain, rendered = chart.render(values), chart.render({**values, "builds": {"system": {"namespace": "packages"}}})
    assert [each for each in plain.objects if each["metadata"].get("namespace") == "packages"] == []
    there = {each["kind"]: each for each in rendered.objects if each["metadata"].get("namespace") == "packages"}
    assert set(there) == {"Role", "RoleBinding"}  # the namespace itself is the admin's
    role, binding = there["Role"], there["RoleBinding"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "moorage-service", "namespace": "moorage-system"}]
    touched = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert touched == {"pods", "pods/log", "events", "resourcequotas", "networkpolicies", "secrets"}
    assert "get" not in verbs_on(role, "secrets")
