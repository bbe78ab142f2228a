"""Every pod that Moorage makes is taken by a namespace that enforces Pod Security `restricted`, by the API server's own word."""

# ruff: noqa: F811
import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from moorage.wire import Size
from moorage_service.projects.platforms.pod_manifests import BuildPod
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pods import manifest
from tests.chart.examples import EXAMPLES
from tests.chart.rendering import Chart
from tests.chart.test_pod_security import CHANGES
from tests.kube.kubectl import KubectlRefused
from tests.kube.namespace import RESTRICTED, Namespace
from tests.kube.node import Node
from tests.service.test_build_pods import build, pods  # noqa: F401 - fixtures
from tests.spawners.test_pods import SPEC

pytestmark = pytest.mark.timeout(1200)
Object = dict[str, Any]
# What is not there in a namespace of a test, and would be asked for first.
OF_THE_RELEASE = ("serviceAccountName", "priorityClassName")
OF_OURS = {"writes into its image", "sysctls"}  # rules of ours beside the standard, which takes some sysctls


@pytest.fixture(scope="module")
def restricted(node: Node) -> Iterator[Namespace]:
    own = Namespace(node, labels=RESTRICTED)
    try:
        yield own
    finally:
        own.close()


@pytest.fixture(scope="module")
def charts(node: Node) -> dict[str, Object]:
    """Of hub, service, proxy, pre-puller, its hook and helm's test, as people install them."""
    chart = Chart(node.programs.path("helm"))
    return {
        f"{example}: {name}": pod
        for example, values in EXAMPLES.items()
        for name, pod in chart.render(values).pods()
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(build: BuildPod, pods: dict[str, Object]) -> dict[str, Object]:
    """Of notebooks and builds, but for the one that installs Debian packages."""
    gpus = {"t4": {"gpu": "t4"}}
    settings = PodSettings(gpu_node_labels=gpus, image_pull_secrets=("pull",), cpu_limit="equal")
    with_gpu = replace(SPEC, size=Size(cpu=2, memory=4 << 30, gpu=1, gpu_type="t4"), scratch_paths=("/run/moorage",))
    return {
        "notebook": manifest(SPEC, PodSettings()), "notebook with a GPU": manifest(with_gpu, settings),
        "describe": build.pod("describe"), "resolve": pods["resolve"], "build": pods["build"],
    }  # fmt: skip


def as_pod(number: int, pod: Object, namespace: str) -> Object:
    spec = {key: value for key, value in pod["spec"].items() if key not in OF_THE_RELEASE}
    return {
        "apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": f"pod-{number}", "namespace": namespace, "labels": pod["metadata"].get("labels", {})},
    }  # fmt: skip


def taken(restricted: Namespace, found: dict[str, Object]) -> dict[str, Object]:
    """Each as the server would keep it. Raises KubectlRefused with its words about those that it refuses."""
    items = [as_pod(number, pod, restricted.name) for number, pod in enumerate(found.values())]
    whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    answers = documents(restricted.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=whole))
    by_name = {each["metadata"]["name"]: each for each in answers}
    return {name: by_name[each["metadata"]["name"]] for name, each in zip(found, items, strict=True)}


def documents(text: str) -> Iterator[Object]:
    """One after another, as kubectl writes them."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        found, at = decoder.raw_decode(text, at)
        yield found


def holds_a_token(pod: Object) -> bool:
    return any(
        "serviceAccountToken" in source
        for volume in pod["spec"].get("volumes", ())
        for source in volume.get("projected", {}).get("sources", ())
    )


def test_a_namespace_that_enforces_restricted_takes_every_pod_of_the_chart(
    restricted: Namespace, charts: dict[str, Object]
) -> None:
    answers = taken(restricted, charts)
    assert len(answers) > 5 * len(EXAMPLES)
    holders = {name.partition(": ")[2] for name, pod in answers.items() if holds_a_token(pod)}
    assert holders == {"Deployment/moorage-hub", "Deployment/moorage-service", "Job/moorage-image-puller-hook"}


def test_it_takes_every_pod_of_notebooks_and_builds_and_gives_none_a_token(
    restricted: Namespace, made: dict[str, Object]
) -> None:
    answers = taken(restricted, made)
    assert {name for name, pod in answers.items() if holds_a_token(pod)} == set()


def test_what_installs_debian_packages_needs_a_namespace_of_its_own_that_takes_baseline(
    node: Node, restricted: Namespace, pods: dict[str, Object]
) -> None:
    system = {"system": pods["system"]}
    with pytest.raises(KubectlRefused, match="violates PodSecurity"):
        taken(restricted, system)
    own = Namespace(node, labels={"pod-security.kubernetes.io/enforce": "baseline"})
    try:
        assert not holds_a_token(taken(own, system)["system"])
    finally:
        own.close()


@pytest.mark.parametrize("change", sorted(set(CHANGES) - OF_OURS))
def test_it_would_refuse_them_otherwise(restricted: Namespace, charts: dict[str, Object], change: str) -> None:
    pod = copy.deepcopy(charts["as it comes: Deployment/moorage-hub"])
    CHANGES[change](pod["spec"])
    # Of a privileged one the server says that it contradicts itself, before anybody judges it.
    with pytest.raises(KubectlRefused, match=r"violates PodSecurity|cannot set `allowPrivilegeEscalation` to false"):
        taken(restricted, {change: pod})
