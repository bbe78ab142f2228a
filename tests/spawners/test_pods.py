"""A workload as a pod."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from moorage.wire import Size
from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pods import PodSpec, Readiness, manifest
from tests.cluster_settings import cluster_settings
from tests.fakes.pod_security import violations

IMAGE = "registry.example.org:5000/tide/env@sha256:" + "0123456789abcdef" * 4
WHOSE = Ownership(workload_id="nb-k3x9", generation=2, kind="notebook", role="server", owner="us-1", project="tide")
SPEC = PodSpec(
    ownership=WHOSE, namespace="moorage-ada-x", image=IMAGE, argv=("python", "-I", "-m", "jupyterhub.singleuser"),
    env={"HOME": "/home/user", "PRICE": "5$ or $(HOME)"}, size=Size(cpu=1.5, memory=2 << 30), home="/home/user",
    home_claim="home", secret_name="nb-k3x9", secret_env={"MOORAGE_TOKEN": "token"}, ports={"notebook": 8888},
    readiness=Readiness(port=8888, path="/user/ada/tide/api", within_s=120),
)  # fmt: skip
SETTINGS = PodSettings()


def container(spec: PodSpec = SPEC, settings: PodSettings = SETTINGS) -> dict[str, Any]:
    (only,) = manifest(spec, settings)["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_a_notebooks_pod_whole() -> None:
    made = manifest(SPEC, replace(SETTINGS, image_pull_secrets=("pull",), priority_classes={"notebook": "interactive"}))
    labels = {
        "app.kubernetes.io/managed-by": "moorage", "moorage.dev/workload": "nb-k3x9", "moorage.dev/generation": "2",
        "moorage.dev/kind": "notebook", "moorage.dev/role": "server", "moorage.dev/owner": "us-1", "moorage.dev/project": "tide",
    }  # fmt: skip
    assert made["metadata"] == {
        "name": "nb-k3x9-2", "namespace": "moorage-ada-x", "labels": labels,
        "annotations": {name: value for name, value in labels.items() if name.startswith("moorage.dev/")},
    }  # fmt: skip
    body = made["spec"]
    assert {name: value for name, value in body.items() if name not in ("containers", "volumes", "securityContext")} == {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10, "imagePullSecrets": [{"name": "pull"}], "priorityClassName": "interactive",
    }  # fmt: skip
    (server,) = body["containers"]
    assert server["resources"] == {
        "requests": {"cpu": "1500m", "memory": str(2 << 30), "ephemeral-storage": str(1 << 30)},
        "limits": {"memory": str(2 << 30), "ephemeral-storage": str(8 << 30)},
    }
    assert server["env"] == [
        {"name": "HOME", "value": "/home/user"},
        {"name": "PRICE", "value": "5$$ or $$(HOME)"},
        {"name": "MOORAGE_TOKEN", "valueFrom": {"secretKeyRef": {"name": "nb-k3x9", "key": "token"}}},
    ]
    assert {mount["mountPath"]: mount["name"] for mount in server["volumeMounts"]} == {
        "/home/user": "home", "/tmp": "tmp", "/dev/shm": "shm",
    }  # fmt: skip
    assert body["volumes"][0] == {"name": "home", "persistentVolumeClaim": {"claimName": "home"}}
    assert server["startupProbe"]["failureThreshold"] * server["startupProbe"]["periodSeconds"] == 120


def test_the_same_spec_gives_the_same_pod() -> None:
    assert manifest(SPEC, SETTINGS) == manifest(copy.deepcopy(SPEC), PodSettings())


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        replace(SPEC, home_claim=None, readiness=None, ports={}),
        replace(SPEC, scratch_paths=("/work", "/opt/cache")),
    ],
)
def test_a_namespace_that_enforces_restricted_takes_it(spec: PodSpec) -> None:
    body = manifest(spec, SETTINGS)["spec"]
    assert violations(body) == []
    body["containers"][0]["securityContext"] = {}
    assert violations(body)  # the judge can say no


def test_a_gpu_is_asked_of_the_nodes_that_have_its_type() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    settings = replace(SETTINGS, gpu_node_labels={"a100": labels}, node_labels={"pool": "user"})
    spec = replace(SPEC, size=Size(cpu=4, memory=8 << 30, gpu=2, gpu_type="a100"))
    assert manifest(spec, settings)["spec"]["nodeSelector"] == {"pool": "user", **labels}
    made = container(spec, settings)["resources"]
    assert made["requests"]["nvidia.com/gpu"] == made["limits"]["nvidia.com/gpu"] == "2"
    assert manifest(spec, settings)["metadata"]["annotations"]["moorage.dev/gpu-type"] == "a100"
    with pytest.raises(ManifestError, match=r"no GPU type 'h100' here; those there are: a100\."):
        manifest(replace(SPEC, size=Size(cpu=4, memory=8 << 30, gpu=2, gpu_type="h100")), settings)

TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
SLOW = {"key": "slow", "operator": "Exists", "effect": "NoSchedule"}


def test_a_gpu_of_any_type_is_let_in_wherever_there_is_one() -> None:
    untyped = replace(SPEC, size=Size(cpu=4, memory=8 << 30, gpu=1))
    one = replace(
        SETTINGS, gpu_node_labels={"mi300": {"gpu": "mi300"}}, gpu_resources={"mi300": "amd.com/gpu"}, gpu_tolerations={"mi300": (TAINT,)},
    )  # fmt: skip
    spec = manifest(untyped, one)["spec"]
    assert spec["containers"][0]["resources"]["limits"]["amd.com/gpu"] == "1"
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"gpu": "mi300"}, [TAINT])
    several = replace(
        SETTINGS, gpu_node_labels={"a100": {"gpu": "a100"}, "t4": {"gpu": "t4"}}, gpu_tolerations={"a100": (TAINT,), "t4": (TAINT, SLOW)},
    )  # fmt: skip
    spec = manifest(untyped, several)["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert (spec.get("nodeSelector", {}), spec["tolerations"]) == ({}, [TAINT, SLOW])
    mixed = replace(several, gpu_resources={"a100": "nvidia.com/gpu", "t4": "nvidia.com/mig-1g.10gb"})
    with pytest.raises(ManifestError, match="choose a type; those there are: a100, t4"):
        manifest(untyped, mixed)


def test_the_image_is_pulled_as_the_chart_says() -> None:
    assert container()["imagePullPolicy"] == "IfNotPresent"
    told = cluster_settings(pods={"image": "registry.example.org/moorage/notebook:1", "image_pull_policy": "Always"})
    assert container(settings=told.pod_settings())["imagePullPolicy"] == "Always"


@pytest.mark.parametrize(
    ("modes", "together"),
    [(["ReadWriteOnce"], True), (["ReadWriteMany"], False), (["ReadWriteOnce", "ReadWriteMany"], False)],
)
def test_notebooks_whose_home_is_on_one_node_go_there_where_they_can(modes: list[str], together: bool) -> None:
    told = cluster_settings(homes={"capacity": "1Gi", "mount_path": "/home/user", "access_modes": modes}).pod_settings()
    made = manifest(SPEC, told)
    assert ("affinity" in made["spec"]) == together
    assert "affinity" not in manifest(replace(SPEC, home_claim=None), told)["spec"]
    if together:
        (wish,) = made["spec"]["affinity"].pop("podAffinity").pop("preferredDuringSchedulingIgnoredDuringExecution")
        assert wish["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
        assert wish["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= made["metadata"]["labels"].items()
        assert made["spec"]["affinity"] == {}, "nothing that is required: a node with GPUs may be another"
        assert "namespaceSelector" not in wish["podAffinityTerm"], "another user's notebooks have another home"


def test_cores_are_a_cap_only_where_the_settings_say_so() -> None:
    assert "cpu" not in container()["resources"]["limits"]
    assert container(settings=replace(SETTINGS, cpu_limit="equal"))["resources"]["limits"]["cpu"] == "1500m"


@pytest.mark.parametrize(
    "reference",
    [
        "registry.example.org/tide/env:1",  # a tag may move
        "env@sha256:" + "0" * 64,  # of which registry?
        "registry.example.org/tide/env@sha256:" + "0" * 63,
        IMAGE + "\n",
        IMAGE.upper(),
        "user@" + IMAGE,
        "https://" + IMAGE,
        IMAGE.replace("tide/", "../"),
        IMAGE.replace("registry", "rеgistry"),  # noqa: RUF001 - that is the point
    ],
)
def test_an_image_that_may_become_another_is_refused(reference: str) -> None:
    with pytest.raises(ManifestError, match="digest"):
        manifest(replace(SPEC, image=reference), SETTINGS)


@pytest.mark.parametrize(
    "reference", [IMAGE, IMAGE.replace("@", ":1.2@"), "localhost:5000/a@" + IMAGE.partition("@")[2]]
)
def test_an_image_by_digest_is_taken(reference: str) -> None:
    assert container(replace(SPEC, image=reference))["image"] == reference


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"uid": 0}, "never runs as root"),
        ({"gid": 0}, "never runs as root"),
        ({"argv": ()}, "needs a program"),
        ({"argv": ("a\0b",)}, "contains a NUL"),
        ({"env": {"A=B": "1"}}, "no name for a variable"),
        ({"env": {"MOORAGE_TOKEN": "1"}}, "as a value and as a secret"),
        ({"secret_name": None}, "the name of a Secret"),
        ({"secret_env": {"A": "../key"}}, "the name of a Secret"),
        ({"home": "/"}, "plain absolute path"),
        ({"home": "/home/../etc"}, "plain absolute path"),
        ({"home": "/etc/x"}, "plain absolute path"),
        ({"home": "/tmp"}, "Two volumes have one place"),
        ({"scratch_paths": ("/work", "/work")}, "Two volumes have one place"),
        ({"home_claim": "Home/x"}, "no valid name"),
        ({"namespace": "kube system"}, "namespace and a role"),
        ({"size": Size(cpu=float("nan"), memory=1)}, "amounts above 0"),
        ({"size": Size(cpu=float("inf"), memory=1)}, "amounts above 0"),
        ({"size": Size(cpu=1, memory=0)}, "amounts above 0"),
        ({"size": Size(cpu=1, memory=1, gpu=-1)}, "amounts above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ManifestError, match=sentence):
        manifest(replace(SPEC, **change), SETTINGS)
