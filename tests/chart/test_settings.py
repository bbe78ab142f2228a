"""What the pods are told: settings.yaml as hub and service read it on one machine, and what both must learn for Kubernetes."""

from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from moorage.quantities import parse_memory
from moorage_hub.settings import HubSettings
from moorage_hub.state import TOKENS
from moorage_service.projects.platforms import namespace as builds
from moorage_service.settings import Settings
from moorage_service.watch.cluster import PROXY_PORT
from moorage_spawners.launch.namespaces import UserNamespace, contents
from tests.chart.examples import CLOUD, EXAMPLES
from tests.chart.rendering import Chart

# Settings that the chart writes and that the classes do not have yet. Whoever adds one there takes it from here.
CLASSES: dict[str, Any] = {"hub": HubSettings, "service": Settings}


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_the_chart_writes_is_taken_by_hub_and_service(chart: Chart, example: str, tmp_path: Any) -> None:
    rendered = chart.render(EXAMPLES[example])
    for part, cls in CLASSES.items():
        own = rendered.settings(part)
        made = cls(**own, state=tmp_path)
        assert made.origins == own["origins"]


def test_both_are_told_the_same_of_the_cluster_and_of_addresses(chart: Chart) -> None:
    for example in EXAMPLES.values():
        hub, service = (chart.render(example).settings(part) for part in ("hub", "service"))
        for name in ("public_url", "origins", "kubernetes", "service_connect_url"):
            assert hub[name] == service[name]
        assert service["hub_api_url"] == f"{hub['hub_connect_url']}/hub/api"
        assert hub["service_connect_url"].endswith(f":{service['port']}")
        assert hub["service_port"] == service["port"]


@pytest.mark.parametrize(
    ("values", "url", "origins"),
    [
        ({}, "http://localhost:8000", "per-user"),
        (CLOUD, "https://moorage.example.org", "per-user"),
        ({**CLOUD, "origins": "one"}, "https://moorage.example.org", "one"),
        (EXAMPLES["gateway"], "https://moorage.example.org", "per-user"),
        (EXAMPLES["an address without a name"], "https://192.0.2.7", "one"),
        ({"publicUrl": "http://[2001:db8::7]:8000"}, "http://[2001:db8::7]:8000", "one"),
        ({"publicUrl": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000", "one"),
    ],
    ids=["port-forward", "ingress", "one origin", "gateway", "IPv4", "IPv6", "with a port"],
)
def test_the_public_address_and_its_origins(chart: Chart, values: dict[str, Any], url: str, origins: str) -> None:
    rendered = chart.render(values)
    settings = rendered.settings("hub")
    assert (settings["public_url"], settings["origins"]) == (url, origins)
    command = rendered.one("Deployment", "moorage-proxy")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert ("--host-routing" in command) == (origins == "per-user")


def test_the_authenticator_is_written_as_jupyterhub_writes_it(chart: Chart) -> None:
    hub = chart.render(CLOUD).settings("hub")
    assert hub["authenticator"] == "generic-oauth"
    assert hub["authenticator_settings"] == {"GenericOAuthenticator": CLOUD["hub"]["config"]["GenericOAuthenticator"]}
    assert hub["allowed_email_domains"] == ["example.org"]


def test_sizes_are_amounts_that_moorage_reads(chart: Chart) -> None:
    rendered = chart.render({"singleuser": {"memory": {"guarantee": "4G"}, "cpu": {"guarantee": 0.5}}})
    hub = rendered.settings("hub")
    assert (parse_memory(hub["notebook_memory"]), hub["notebook_cpu"]) == (4 << 30, 0.5)
    assert parse_memory(rendered.settings("service")["kubernetes"]["builds"]["memory"]) == 8 << 30


def test_what_was_admitted_is_held_for_as_long_as_the_hub_tries_to_start_it(chart: Chart) -> None:
    for values in ({}, {"singleuser": {"startTimeout": 1200}}):
        rendered = chart.render(values)
        held = rendered.settings("service")["admission_lease_s"]
        assert held > rendered.settings("hub")["start_timeout_s"] + 30  # until the hub's word of it has come


def test_urls_of_databases_come_by_the_environment(chart: Chart) -> None:
    rendered = chart.render(CLOUD)
    found = {}
    for part in ("hub", "service"):
        container = rendered.one("Deployment", f"moorage-{part}")["spec"]["template"]["spec"]["containers"][0]
        env = {each["name"]: each for each in container["env"]}
        found[part] = env[f"MOORAGE_{part.upper()}_DATABASE_URL"]["valueFrom"]["secretKeyRef"]
    assert found == {
        "hub": {"name": "hub-database", "key": "url"},
        "service": {"name": "moorage-service-settings", "key": "database-url"},
    }
    assert "database-url" in rendered.one("Secret", "moorage-service-settings")["stringData"]


def test_further_variables_are_texts_or_come_from_somewhere(chart: Chart) -> None:
    container = chart.render(CLOUD).one("Deployment", "moorage-hub")["spec"]["template"]["spec"]["containers"][0]
    env = {each["name"]: each for each in container["env"]}
    assert env["LANG"] == {"name": "LANG", "value": "C.UTF-8"}
    assert env["OAUTH_CLIENT_SECRET"]["valueFrom"]["secretKeyRef"] == {"name": "oidc", "key": "secret"}


def test_the_name_of_the_proxys_pods_leads_to_them_and_to_no_address_of_its_own(chart: Chart) -> None:
    rendered = chart.render()
    name = rendered.settings("hub")["kubernetes"]["proxy_pods"]
    found = rendered.one("Service", name.removesuffix(f".{chart.namespace}"))
    assert found["spec"]["clusterIP"] == "None"
    pod = dict(rendered.pods())["Deployment/moorage-proxy"]
    assert found["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert {"name": "http", "containerPort": PROXY_PORT} in pod["spec"]["containers"][0]["ports"]


def test_pods_ask_for_names_where_the_cluster_answers(chart: Chart, tmp_path: Path) -> None:
    ours = {"k8s-app": "kube-dns"}
    theirs = {"dns.operator.openshift.io/daemonset-dns": "default"}
    told = {"namespace": "openshift-dns", "labels": theirs, "ports": [5353], "ranges": ["169.254.20.10/32"]}
    for values, namespace, labels, number, ranges in (
        ({}, "kube-system", ours, 53, []),
        ({"networkPolicy": {"dns": told}}, "openshift-dns", theirs, 5353, [{"ipBlock": {"cidr": "169.254.20.10/32"}}]),
    ):
        rendered = chart.render(values)
        ports = [{"protocol": protocol, "port": number} for protocol in ("UDP", "TCP")]
        for part in ("hub", "service", "proxy"):
            assert rendered.one("NetworkPolicy", f"moorage-{part}")["spec"]["egress"][0] == {"ports": ports}
        cluster = Settings(**rendered.settings("service"), state=tmp_path).kubernetes
        assert cluster is not None
        user = UserNamespace(name="moorage-ada", owner="us-1")
        for made in (contents(user, cluster.release_settings()), builds.objects(cluster, "moorage-builds", ())):
            (policy,) = [each for each in made if each["metadata"]["name"] == "allow-names"]
            (rule,) = policy["spec"]["egress"]
            (pods, *more) = rule["to"]
            assert pods["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
            assert (pods["podSelector"]["matchLabels"], rule["ports"], more) == (labels, ports, ranges)


def test_registry_credentials_reach_the_service_alone(chart: Chart) -> None:
    rendered = chart.render(CLOUD)
    told = rendered.settings("service")["kubernetes"]["registry"]
    assert told["push_secret"] == "/etc/moorage/registry/push/.dockerconfigjson"
    holders = {name for name, pod in rendered.pods() if "'secretName': 'push'" in str(pod)}
    assert holders == {"Deployment/moorage-service"}


def test_made_tokens_are_keys_and_each_another(chart: Chart) -> None:
    data = {name: b64decode(value) for name, value in chart.render().one("Secret", "moorage-tokens")["data"].items()}
    assert set(data) == {*TOKENS, "vault-key"}
    Fernet(data["vault-key"])
    assert all(len(bytes.fromhex(data[name].decode())) == 32 for name in TOKENS)
    assert len(set(data.values())) == len(data)
