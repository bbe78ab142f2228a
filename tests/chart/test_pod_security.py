"""Every pod that the chart makes passes Pod Security `restricted`, and can write nowhere but in its volumes."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.chart.examples import EXAMPLES
from tests.chart.pod_security import containers, violations
from tests.chart.rendering import Chart

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_pod_is_let_in_by_restricted(chart: Chart, example: str) -> None:
    pods = dict(chart.render(EXAMPLES[example]).pods())
    assert len(pods) >= 4
    assert {name: broken for name, pod in pods.items() if (broken := violations(pod))} == {}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_container_says_what_it_needs(chart: Chart, example: str) -> None:
    for name, pod in chart.render(EXAMPLES[example]).pods():
        for container in containers(pod["spec"]):
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), (name, container["name"])
            assert not container["image"].endswith((":", ":latest")), (name, container["image"])


@pytest.mark.parametrize("example", EXAMPLES)
def test_only_hub_service_and_the_hook_hold_an_accounts_token(chart: Chart, example: str) -> None:
    rendered = chart.render(EXAMPLES[example])
    holders = {name for name, pod in rendered.pods() if pod["spec"].get("automountServiceAccountToken") is not False}
    assert holders - {"Job/moorage-image-puller-hook"} == {"Deployment/moorage-hub", "Deployment/moorage-service"}
    assert all(account["automountServiceAccountToken"] is False for account in rendered.of("ServiceAccount"))


def test_each_pod_gets_only_the_tokens_that_are_for_it(chart: Chart) -> None:
    pods = dict(chart.render().pods())
    tokens = {
        name: {item["key"] for volume in pod["spec"].get("volumes", []) if volume["name"] == "tokens" for item in volume["secret"]["items"]}
        for name, pod in pods.items()
    }  # fmt: skip
    assert "vault-key" not in tokens["Deployment/moorage-hub"]
    assert tokens["Deployment/moorage-service"] == {"hub-to-service", "service-to-hub", "vault-key"}
    assert {name for name, keys in tokens.items() if keys} == {"Deployment/moorage-hub", "Deployment/moorage-service"}


CHANGES: dict[str, Change] = {
    "host network": lambda spec: spec.update(hostNetwork=True),
    "a path of the node": lambda spec: spec["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
    "no seccomp profile": lambda spec: spec["securityContext"].pop("seccompProfile"),
    "may be root": lambda spec: [each["securityContext"].pop("runAsNonRoot") for each in (spec, *containers(spec))],
    "is root": lambda spec: spec["securityContext"].update(runAsUser=0),
    "sysctls": lambda spec: spec["securityContext"].update(sysctls=[{"name": "kernel.shm_rmid_forced", "value": "1"}]),
    "privileged": lambda spec: spec["containers"][0]["securityContext"].update(privileged=True),
    "escalation left open": lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "keeps capabilities": lambda spec: spec["containers"][0]["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
    "adds a capability": lambda spec: spec["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    "a port of the node": lambda spec: spec["containers"][0]["ports"][0].update(hostPort=80),
    "writes into its image": lambda spec: spec["initContainers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_the_judge_notices(chart: Chart, change: str) -> None:
    pod = deepcopy(dict(chart.render().pods())["Deployment/moorage-hub"])
    assert violations(pod) == []
    CHANGES[change](pod["spec"])
    assert violations(pod) != []
