"""What is rendered hangs together: names, labels, selectors, ports, volumes."""

import re
from importlib.util import find_spec
from typing import Any

import pytest

from tests.chart.examples import CLOUD, EXAMPLES, GATEWAY
from tests.chart.pod_security import containers
from tests.chart.rendering import Chart, Rendered

OF_THE_CLUSTER = {
    "ClusterRole", "ClusterRoleBinding", "PriorityClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}  # fmt: skip
API_VERSIONS = {
    "v1": "ConfigMap PersistentVolumeClaim Pod Secret Service ServiceAccount",
    "apps/v1": "DaemonSet Deployment",
    "batch/v1": "Job",
    "policy/v1": "PodDisruptionBudget",
    "networking.k8s.io/v1": "Ingress NetworkPolicy",
    "gateway.networking.k8s.io/v1": "HTTPRoute",
    "scheduling.k8s.io/v1": "PriorityClass",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "admissionregistration.k8s.io/v1": "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding",
}
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.fixture(params=list(EXAMPLES))
def rendered(request: pytest.FixtureRequest, chart: Chart) -> Rendered:
    return chart.render(EXAMPLES[request.param])


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def test_each_object_is_of_a_known_kind_and_named_once(rendered: Rendered) -> None:
    seen = set()
    for each in rendered.objects:
        kind, meta = each["kind"], each["metadata"]
        assert kind in API_VERSIONS[each["apiVersion"]].split()
        assert NAME.fullmatch(meta["name"]), meta["name"]
        assert ("namespace" in meta) == (kind not in OF_THE_CLUSTER), f"{kind} {meta['name']}"
        key = (kind, meta.get("namespace"), meta["name"])
        assert key not in seen
        seen.add(key)
        for label in (
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
            "helm.sh/chart",
        ):
            assert meta["labels"][label]


def test_selectors_find_their_own_pods_and_no_others(rendered: Rendered) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in rendered.pods()}
    for each in rendered.objects:
        title = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] in ("Deployment", "DaemonSet"):
            assert [name for name, own in labels.items() if matches(each["spec"]["selector"]["matchLabels"], own)] == [
                title
            ]
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        }.get(each["kind"])
        if selector:
            found = [name for name, own in labels.items() if matches(selector(each["spec"]), own)]
            part = each["metadata"]["labels"]["app.kubernetes.io/component"]
            assert found == [f"Deployment/moorage-{part}"], title


def test_services_and_probes_name_ports_that_there_are(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        for container in containers(pod["spec"]):
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in ports, name
    for service in rendered.of("Service"):
        part = service["metadata"]["labels"]["app.kubernetes.io/component"]
        main = rendered.one("Deployment", f"moorage-{part}")["spec"]["template"]["spec"]["containers"][0]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {port["name"] for port in main["ports"]}


def test_mounts_have_volumes_and_volumes_what_they_are_of(rendered: Rendered) -> None:
    made = {(each["kind"], each["metadata"]["name"]) for each in rendered.objects}
    outside = {"push", "pull", "ours", "there", "there-too"}
    for name, pod in rendered.pods():
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        mounted = {
            mount["name"] for container in containers(pod["spec"]) for mount in container.get("volumeMounts", [])
        }
        assert mounted == set(volumes), name
        for volume in volumes.values():
            sources = (
                ("secret", "secretName", "Secret"),
                ("configMap", "name", "ConfigMap"),
                ("persistentVolumeClaim", "claimName", "PersistentVolumeClaim"),
            )
            for key, field, kind in sources:
                if key in volume and volume[key][field] not in outside:
                    assert (kind, volume[key][field]) in made, f"{name}: {volume}"
                    assert keys_of(volume[key]) <= data_of(rendered, kind, volume[key][field])


def keys_of(volume: dict[str, Any]) -> set[str]:
    return {item["key"] for item in volume.get("items", [])}


def data_of(rendered: Rendered, kind: str, name: str) -> set[str]:
    found = rendered.one(kind, name)
    return {*found.get("data", {}), *found.get("stringData", {})}


def test_accounts_of_pods_are_made(rendered: Rendered) -> None:
    accounts = {each["metadata"]["name"] for each in rendered.of("ServiceAccount")}
    assert {name for _, pod in rendered.pods() if (name := pod["spec"].get("serviceAccountName"))} <= accounts


def test_hub_and_proxy_are_one_pod_each_and_never_two_at_once(rendered: Rendered) -> None:
    for part in ("hub", "proxy"):
        spec = rendered.one("Deployment", f"moorage-{part}")["spec"]
        assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_hub_and_service_are_two_programs_of_one_image(chart: Chart) -> None:
    """Nodes pull it once. Its entry point stays, for tini is that."""
    deployments = [chart.render().one("Deployment", f"moorage-{part}") for part in ("hub", "service")]
    hub, service = (each["spec"]["template"]["spec"]["containers"][0] for each in deployments)
    assert hub["image"] == service["image"]
    assert "command" not in {*hub, *service}
    for container in (hub, service):
        program, isolated, is_module, module, *_ = container["args"]
        assert (program, isolated, is_module) == ("/opt/moorage/control/bin/python", "-I", "-m")
        assert find_spec(module), module
    assert hub["args"] != service["args"]


def test_an_upgrade_of_hub_and_service_leaves_the_proxy_alone(chart: Chart) -> None:
    changed = {
        "hub": {"image": {"name": "moorage/control", "tag": "next"}, "settings": {"poll_s": 9}},
        "service": {"image": {"name": "moorage/control", "tag": "next"}, "settings": {"max_workers": 9}},
        "singleuser": {"startTimeout": 999},
    }
    before, after = (chart.render(values).one("Deployment", "moorage-proxy")["spec"] for values in ({}, changed))
    assert before == after
    for part in ("hub", "service"):
        before, after = (chart.render(values).one("Deployment", f"moorage-{part}")["spec"] for values in ({}, changed))
        assert before["template"]["metadata"]["annotations"] != after["template"]["metadata"]["annotations"]


def test_what_people_made_and_the_keys_outlive_the_release(chart: Chart) -> None:
    rendered = chart.render()
    kept = [*rendered.of("PersistentVolumeClaim"), rendered.one("Secret", "moorage-tokens")]
    assert len(kept) == 3
    assert all(each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for each in kept)


def test_a_secret_of_ones_own_takes_the_place_of_the_made_one(chart: Chart) -> None:
    rendered = chart.render(EXAMPLES["bare"])
    assert "moorage-tokens" not in {each["metadata"]["name"] for each in rendered.of("Secret")}
    env = rendered.one("Deployment", "moorage-proxy")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env[0]["valueFrom"]["secretKeyRef"] == {"name": "ours", "key": "proxy-token"}


def test_passwords_stand_in_secrets_alone(chart: Chart) -> None:
    text = [str(each) for each in chart.render(CLOUD).objects if each["kind"] != "Secret"]
    assert not [each for each in text if "canary-password" in each]
    assert "canary-password" in str(chart.render(CLOUD).of("Secret"))


@pytest.mark.parametrize(("values", "kind"), [(CLOUD, "Ingress"), (GATEWAY, "HTTPRoute")])
def test_the_way_in_covers_the_names_of_users(chart: Chart, values: dict[str, Any], kind: str) -> None:
    spec = chart.render(values).one(kind, "moorage")["spec"]
    hosts = spec.get("hostnames") or [rule["host"] for rule in spec["rules"]]
    assert hosts == ["moorage.example.org", "*.moorage.example.org"]
    alone = chart.render({**values, "origins": "one"}).one(kind, "moorage")["spec"]
    assert (alone.get("hostnames") or [rule["host"] for rule in alone["rules"]]) == ["moorage.example.org"]


def test_the_proxys_api_answers_the_hub_alone(chart: Chart) -> None:
    for values in ({}, EXAMPLES["an address without a name"]):
        policy = chart.render(values).one("NetworkPolicy", "moorage-proxy")["spec"]
        (rule,) = [each for each in policy["ingress"] if each["ports"] == [{"port": "api"}]]
        (peer,) = rule["from"]
        assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "hub"


@pytest.mark.parametrize(
    ("values", "own", "not_users"),
    [
        ({}, {"moorage.dev/managed-by": "moorage-system.moorage"}, ["moorage-builds"]),
        (
            {"builds": {"system": {"namespace": "packages"}}, "userNamespaces": {"prefix": "lab"}},
            {"moorage.dev/managed-by": "moorage-system.moorage"},
            ["lab-builds", "packages"],
        ),
    ],
)
def test_where_packages_code_runs_nobody_is_let_in_as_a_users_pod(
    chart: Chart, values: dict[str, Any], own: dict[str, str], not_users: list[str]
) -> None:
    """The namespaces of builds carry the label of users', by which the service may touch them."""
    rendered = chart.render(values)
    for part in ("hub", "service"):
        (rule,) = rendered.one("NetworkPolicy", f"moorage-{part}")["spec"]["ingress"]
        (users,) = [each["namespaceSelector"] for each in rule["from"] if "namespaceSelector" in each]
        assert users["matchLabels"] == own
        (but,) = users["matchExpressions"]
        assert but == {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": not_users}


@pytest.mark.parametrize(
    ("service", "policy"),
    [
        ({}, None),
        ({"externalTrafficPolicy": "Cluster"}, None),
        ({"type": "NodePort"}, "Local"),
        ({"type": "LoadBalancer"}, "Local"),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}, "Cluster"),
    ],
)
def test_whoever_comes_in_by_nodes_keeps_their_address(
    chart: Chart, service: dict[str, Any], policy: str | None
) -> None:
    """Failed sign-ins are counted by it. The API server refuses the field where there is no such way in."""
    values = {"hub": GATEWAY["hub"], "publicUrl": "https://moorage.example.org", "proxy": {"service": service}}
    spec = chart.render(values).one("Service", "moorage-proxy-public")["spec"]
    assert spec.get("externalTrafficPolicy") == policy


def test_hub_and_service_keep_out_of_clouds_credentials_and_reach_the_nodes(chart: Chart) -> None:
    """An API server may be in the very network that users' pods are to be kept from."""
    rendered = chart.render({"networkPolicy": {"blockedAddresses": ["203.0.113.0/24"]}})
    for part in ("hub", "service"):
        egress = rendered.one("NetworkPolicy", f"moorage-{part}")["spec"]["egress"]
        blocks = [peer["ipBlock"] for rule in egress for peer in rule.get("to", ()) if "ipBlock" in peer]
        denied = {each for block in blocks for each in block["except"]}
        assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
        assert {"169.254.169.254/32", "fd00:ec2::254/128"} <= denied
        assert "203.0.113.0/24" not in denied
    assert rendered.settings("service")["kubernetes"]["network_policy"]["blocked_addresses"] == ["203.0.113.0/24"]


def test_core_comes_before_users(chart: Chart) -> None:
    rendered = chart.render()
    core, users = (rendered.one("PriorityClass", f"moorage-{name}")["value"] for name in ("core", "users"))
    assert core > users
    for part in ("hub", "service", "proxy"):
        assert (
            rendered.one("Deployment", f"moorage-{part}")["spec"]["template"]["spec"]["priorityClassName"]
            == "moorage-core"
        )
    assert rendered.settings("hub")["kubernetes"]["priority_class"] == "moorage-users"


def test_nodes_of_users_pull_what_users_start(chart: Chart) -> None:
    for name in ("moorage-image-puller", "moorage-image-puller-hook"):
        spec = chart.render(CLOUD).one("DaemonSet", name)["spec"]["template"]["spec"]
        assert {each["image"] for each in spec["initContainers"]} == {
            "moorage/notebook:0.2.0",
            f"registry.example.org/vision@sha256:{'0' * 64}",
        }
        void = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
        assert all(void in each["env"] for each in spec["initContainers"]), "images made for GPUs would be shown all"
        assert {each["imagePullPolicy"] for each in spec["initContainers"]} == {"IfNotPresent"}
        assert spec["nodeSelector"] == {"pool": "users"}
        assert {each["key"] for each in spec["tolerations"]} == {"users", "nvidia.com/gpu"}, "also nodes with GPUs"


def test_they_pull_it_as_users_pods_do(chart: Chart) -> None:
    values = {
        **CLOUD, "singleuser": {"image": {"pullPolicy": "Always"}}, "registry": {"url": "r.example.org/m", "pullSecret": "of-projects"},
    }  # fmt: skip
    for secrets, expected in (
        (["pull"], ["pull", "of-projects"]),
        (["of-projects"], ["of-projects"]),
        ([], ["of-projects"]),
    ):
        rendered = chart.render({**values, "imagePullSecrets": secrets})
        for name in ("moorage-image-puller", "moorage-image-puller-hook"):
            spec = rendered.one("DaemonSet", name)["spec"]["template"]["spec"]
            assert [each["name"] for each in spec["imagePullSecrets"]] == expected
            assert {each["imagePullPolicy"] for each in spec["initContainers"]} == {"Always"}
        core = rendered.one("Deployment", "moorage-hub")["spec"]["template"]["spec"]
        assert [each["name"] for each in core.get("imagePullSecrets", [])] == secrets
    assert rendered.settings("hub")["kubernetes"]["pods"]["image_pull_policy"] == "Always"
