"""Which values the chart takes, which it refuses and in what words, and that their documents are what the schema says."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from helm import write_schema
from tests.chart.examples import EXAMPLES, JOINED, OIDC
from tests.chart.rendering import CHART, Chart, Refused

FREE = frozenset({
    "global", "hub.settings", "service.settings", "hub.config.NAMEAuthenticator", "networkPolicy.proxyFrom", "networkPolicy.monitoringFrom",
    "networkPolicy.extraEgress", "singleuser.networkPolicy.egress",
})  # fmt: skip
SCHEMA = write_schema.schema()


def test_what_is_written_from_the_schema_is_current() -> None:
    stale = [path.name for path, text in write_schema.files().items() if path.read_text() != text]
    assert stale == [], "run `make chart-schema`"


def test_the_schema_takes_the_charts_own_defaults() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values == write_schema.defaults(SCHEMA)
    jsonschema.validate(values, SCHEMA)


def test_every_value_says_what_it_is_for() -> None:
    assert [path for path, leaf in write_schema.leaves(SCHEMA) if len(leaf.get("description", "")) < 10] == []


def test_the_docs_table_has_every_value_of_the_chart() -> None:
    page = write_schema.PAGE.read_text()
    paths = list(paths_of(yaml.safe_load((CHART / "values.yaml").read_text())))
    assert len(paths) > 120
    assert [path for path in paths if f"| `{path}` |" not in page] == []


def paths_of(values: dict[str, Any], above: str = "") -> list[str]:
    leaves = {path for path, leaf in write_schema.leaves(SCHEMA) if "default" in leaf}
    found = []
    for name, value in values.items():
        path = f"{above}{name}"
        found += [path] if path in leaves else paths_of(value, f"{path}.")
    return found


def test_the_chart_has_the_version_of_what_it_installs() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    versions = {
        line
        for path in CHART.parents[1].glob("*/pyproject.toml")
        for line in path.read_text().splitlines()
        if line.startswith("version")
    }
    assert versions == {f'version = "{about["appVersion"]}"'}


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_lints(chart: Chart, example: str) -> None:
    assert "0 chart(s) failed" in chart.lint(EXAMPLES[example])


def objects_of(node: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all objects of the schema, but for those that an item of a list or a free name leads to."""
    found = [path]
    for name, child in node.get("properties", {}).items():
        if child.get("type") == "object":
            found += objects_of(child, (*path, name))
    return found


def test_an_object_is_closed_or_a_free_map() -> None:
    for path in objects_of(SCHEMA):
        node = SCHEMA
        for name in path:
            node = node["properties"][name]
        if "properties" in node:
            assert node["additionalProperties"] is False, path
        else:
            assert node["additionalProperties"] is not True or ".".join(path) in FREE, path


@pytest.mark.parametrize(
    "path",
    [path for path in objects_of(SCHEMA) if ".".join(path) not in FREE],
    ids=lambda path: ".".join(path) or "top",
)
def test_a_key_that_there_is_not_is_refused(path: tuple[str, ...]) -> None:
    """By the schema, which helm applies: see the next test."""
    values = write_schema.defaults(SCHEMA)
    below = values
    for name in path:
        below = below.setdefault(name, {})
    below["noSuchThing"] = [{"of": "any kind"}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize(
    "values",
    [
        {"hubb": {}},
        {"hub": {"imagee": {}}},
        {"proxy": {"secretToken": "x"}},
        {"hub": {"config": {"JupyterHub": {"admin_access": True}}}},
        {"hub": {"config": {"Spawner": {"cmd": "x"}}}},
        {"service": {"replicas": 0}},
        {"hub": {"tolerations": [{"keyy": "x"}]}},
        {"hub": {"extraEnv": {"A": 1}}},
        {"gpu": {"types": {"h200": {}}}},
        {"publicUrl": "moorage.example.org"},
        {"publicUrl": "https://moorage.example.org/"},
        {"podSecurity": {"runAsUser": 0}},
        {"hub": {"resources": {"requests": {"memory": "2GB"}}}},
    ],
    ids=str,
)
def test_helm_refuses_what_the_schema_does_not_know(chart: Chart, values: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="values don't meet the specifications of the schema"):
        chart.render(values)


NOT_TOGETHER: dict[str, tuple[dict[str, Any], str]] = {
    "two services on SQLite": ({"service": {"replicas": 2}}, "service.replicas: 2 and more need PostgreSQL"),
    "two services on one pod's volume": (
        {"service": {"replicas": 2}, "database": {"url": "postgresql://db/moorage"}},
        "Set service.pvc.accessModes: [ReadWriteMany]",
    ),
    "PostgreSQL without an address": (
        {"hub": {"db": {"type": "postgres"}}},
        "needs hub.db.url or hub.db.existingSecret.name",
    ),
    "an address that is not used": ({"hub": {"db": {"url": "postgresql://db/hub"}}}, "Set hub.db.type: postgres"),
    "a password for the world": (
        {"ingress": {"enabled": True, "hosts": ["moorage.example.org"]}},
        'ingress.enabled lets others in, but the authenticator "password" is no real one',
    ),
    "a balancer without a real authenticator": (
        {"proxy": {"service": {"type": "LoadBalancer"}}},
        "proxy.service.type: LoadBalancer lets others in",
    ),
    "a demonstration for the world": (
        {
            "gateway": {"enabled": True, "hostnames": ["a.example.org"], "parentRefs": [{"name": "g"}]},
            "hub": {"config": {"JupyterHub": {"authenticator_class": "dummy"}}},
        },
        "gateway.enabled lets others in",
    ),
    "an ingress without a host": (
        {"hub": {"config": OIDC}, "ingress": {"enabled": True}},
        "ingress.hosts: name at least one host",
    ),
    "a route without a gateway": (
        {"hub": {"config": OIDC}, "gateway": {"enabled": True}},
        "gateway.hostnames, gateway.parentRefs",
    ),
    "no namespaces": (
        {"rbac": {"mode": "namespaced"}},
        "rbac.namespaces: with rbac.mode: namespaced name the namespaces",
    ),
    "namespaces for nothing": ({"rbac": {"namespaces": ["a"]}}, "rbac.namespaces is for rbac.mode: namespaced"),
    "workloads beside the keys": (
        {"rbac": {"mode": "namespaced", "namespaces": ["a", "moorage-system"]}},
        "moorage-system is the release's own",
    ),
    "builds beside workloads": (
        {"rbac": {"mode": "namespaced", "namespaces": ["a"]}, "builds": {"namespace": "a"}},
        "builds.namespace: a is for other things, too",
    ),
    "a namespace for builds for nothing": (
        {"builds": {"namespace": "a"}},
        "builds.namespace is for rbac.mode: namespaced",
    ),
    "one account for both": (
        {"hub": {"serviceAccount": {"create": False}}, "service": {"serviceAccount": {"create": False}}},
        "hub and service need accounts of their own",
    ),
    "old before it is silent": ({"watch": {"stale": 90}}, "watch.stale: a quiet cluster"),
    "a way in beside the existing hub's": (
        {
            "existingHub": {"enabled": True},
            "ingress": {"enabled": True, "hosts": ["a.example.org"]},
            "hub": {"config": OIDC},
        },
        "ingress.enabled: with existingHub.enabled people come in by that hub's own address",
    ),
    "an existing hub without an address": ({"existingHub": {"enabled": True}}, "existingHub.enabled needs publicUrl"),
    "origins of an existing hub": ({**JOINED, "origins": "per-user"}, "origins: per-user needs Moorage's own hub"),
    "a registry as an address": ({"registry": {"url": "https://registry.example.org"}}, "registry.url"),
    "a setting said twice": (
        {"hub": {"settings": {"public_url": "https://a.example.org"}}},
        "hub.settings.public_url: the chart sets it",
    ),
    "a setting of the chart's own": (
        {"service": {"settings": {"kubernetes": {}}}},
        "service.settings.kubernetes: the chart sets it",
    ),
    "packages installed where users are": (
        {
            "rbac": {"mode": "namespaced", "namespaces": ["team-a"]},
            "builds": {"system": {"namespace": "team-a"}},
        },
        "builds.system.namespace: team-a is for other things, too",
    ),
    "packages installed where the keys are": (
        {"builds": {"system": {"namespace": "moorage-system"}}},
        "builds.system.namespace: moorage-system is for other things, too",
    ),
    "packages installed where environments are built": (
        {"builds": {"system": {"namespace": "moorage-builds"}}},
        "builds.system.namespace: in moorage-builds projects' environments are built",
    ),
}


@pytest.mark.parametrize("case", NOT_TOGETHER)
def test_values_that_do_not_go_together_are_refused_with_what_to_do(chart: Chart, case: str) -> None:
    values, words = NOT_TOGETHER[case]
    with pytest.raises(Refused) as refusal:
        chart.render(values)
    assert words in str(refusal.value).replace('\\"', '"')


def test_two_services_are_rolled_over_one_database_and_one_volume(chart: Chart) -> None:
    spec = chart.render(EXAMPLES["cloud"]).one("Deployment", "moorage-service")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (2, "RollingUpdate")
    assert chart.render().one("Deployment", "moorage-service")["spec"]["strategy"] == {"type": "Recreate"}


def test_the_notes_say_how_to_open_it(chart: Chart, tmp_path: Path) -> None:
    plain = chart.notes({}, tmp_path / "plain")
    assert "port-forward svc/moorage-proxy-public 8000:80" in plain
    assert "Open http://localhost:8000. A link that signs you in" in plain
    assert "exec deploy/moorage-hub -c hub -- moorage-hub link" in plain
    cloud = chart.notes(EXAMPLES["cloud"], tmp_path / "cloud")
    assert "Open https://moorage.example.org\n" in cloud
    assert "*.moorage.example.org must lead to the same place, and the certificate must cover it" in cloud
    assert "port-forward" not in cloud
    assert "moorage-hub link" not in cloud
