"""What a build's pods may do, read from their manifests."""

from dataclasses import replace
from typing import Any

import pytest

from moorage_images.network import without_credentials
from moorage_images.oci.reference import parse
from moorage_images.pod_build import Task
from moorage_service.projects.platforms.pod_manifests import BuildPod
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from tests.chart.examples import CLOUD
from tests.chart.rendering import Chart, find_helm
from tests.fakes.pod_security import violations

BASE = parse("registry.example.org/moorage/notebook@sha256:" + "a" * 64)
TARGET = parse("registry.example.org/moorage/environments:fish-1")
SYSTEM_TARGET = parse("registry.example.org/moorage/system:0123")
PROXY = "http://name:canary@proxy.example.org:3128"
TREE, CHANGES = "/opt/moorage/environment", "/opt/moorage/system"
# kubernetes.io: Pod Security Standards, what `baseline` lets a container add.
BASELINE = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
    "SETUID", "SYS_CHROOT",
}  # fmt: skip


@pytest.fixture(scope="module")
def build() -> BuildPod:
    """As the chart tells of a cluster in a cloud, with all there is to say of builds."""
    helm = find_helm()
    if helm is None:
        pytest.skip("helm is missing (MOORAGE_HELM is not set)")
    more = {
        "extraEnv": {"HTTPS_PROXY": PROXY},
        "nodeSelector": {"pool": "builds"},
        "tolerations": [{"key": "builds", "operator": "Exists"}],
        "caCertificates": "PEM",
        "system": {"namespace": "packages", "userNamespace": True},
    }
    told = Chart(helm).render({**CLOUD, "builds": more}).settings("service")["kubernetes"]
    settings = KubernetesSettings(**told)
    variables = {"UV_INDEX_URL": "https://index.example.org/$(HOME)", "HTTPS_PROXY": PROXY}
    return BuildPod(build_id="bu-1", project="pr-1", image=BASE, settings=settings, time_s=60.0, variables=variables)


@pytest.fixture(scope="module")
def pods(build: BuildPod) -> dict[str, dict[str, Any]]:
    return {
        "resolve": build.pod("resolve"),
        "build": build.building("0123", "/usr/bin/python3", TARGET, plain_http=()),
        "system": build.installing(["libgomp1", "sl"], SYSTEM_TARGET, plain_http=()),
    }


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])}


def mounts(container: dict[str, Any]) -> dict[str, bool]:
    """Place -> whether it may be written."""
    return {each["mountPath"]: not each.get("readOnly") for each in container["volumeMounts"]}


@pytest.mark.parametrize("name", ["resolve", "build"])
def test_they_pass_restricted_hold_no_token_and_write_in_scratch_alone(
    pods: dict[str, dict[str, Any]], name: str
) -> None:
    spec = pods[name]["spec"]
    assert violations(spec) == []
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] == 60
    assert (spec["nodeSelector"]["pool"], spec["tolerations"][0]["key"]) == ("builds", "builds")
    for step, each in containers(pods[name]).items():
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
        assert each["resources"]["limits"] == {"memory": "8Gi", "ephemeral-storage": "20Gi"}
        index = {"name": "UV_INDEX_URL", "value": "https://index.example.org/$$(HOME)"}
        assert (index in each["env"]) == (step in ("resolve", "install"))  # `try` runs what packages bring
    assert all(set(volume) & {"emptyDir", "secret"} for volume in spec["volumes"])


def test_the_tree_is_written_by_the_install_alone_and_credentials_are_the_pushs_alone(
    build: BuildPod, pods: dict[str, dict[str, Any]]
) -> None:
    found = containers(pods["build"])
    assert list(found) == ["install", "try", "push"]
    assert {name: mounts(each)[TREE] for name, each in found.items()} == {"install": True, "try": False, "push": False}
    assert [name for name, each in found.items() if "/etc/moorage/registry" in mounts(each)] == ["push"]
    assert {name: each["image"] for name, each in found.items()} == {
        "install": str(BASE), "try": str(BASE), "push": build.settings.builds.image,
    }  # fmt: skip
    scratch = [
        place["name"] for each in found.values() for place in each["volumeMounts"] if place["mountPath"] == "/tmp"
    ]
    assert len(set(scratch)) == 3


def test_the_one_that_installs_debian_packages_is_root_of_one_container_and_passes_baseline(
    build: BuildPod, pods: dict[str, dict[str, Any]]
) -> None:
    pod, found = pods["system"], containers(pods["system"])
    assert violations(pod["spec"]) == ["packages: has capabilities", "packages: may run as root"]
    security = found["packages"]["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert set(security["capabilities"]["add"]) <= BASELINE
    assert security["allowPrivilegeEscalation"] is False
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["hostUsers"] is False  # as the chart's value says
    assert "hostUsers" not in pods["build"]["spec"]
    assert {name: each["metadata"]["namespace"] for name, each in pods.items()} == {
        "resolve": "moorage-builds", "build": "moorage-builds", "system": "packages",
    }  # fmt: skip


def test_packages_own_scripts_run_without_credentials_and_what_pushes_does_not_run_them(
    build: BuildPod, pods: dict[str, dict[str, Any]]
) -> None:
    found = containers(pods["system"])
    assert list(found) == ["packages", "push"]
    assert {name: mounts(each)[CHANGES] for name, each in found.items()} == {"packages": True, "push": False}
    assert [name for name, each in found.items() if "/etc/moorage/registry" in mounts(each)] == ["push"]
    assert {name: each["image"] for name, each in found.items()} == {
        "packages": str(BASE), "push": build.settings.builds.image,
    }  # fmt: skip
    argv = found["push"]["command"]
    assert argv[argv.index("--packages") + 1 :][:2] == ["libgomp1", "sl"]


def test_none_of_them_is_shown_the_gpus_of_its_machine(pods: dict[str, dict[str, Any]]) -> None:
    """An image that says it wants all of them would get them, unasked, where the runtime hands them out by that variable."""
    for pod in pods.values():
        for each in containers(pod).values():
            assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in each["env"]


@pytest.mark.parametrize("from_source", [False, True])
def test_what_pushes_passes_a_proxy_that_asks_for_a_password(build: BuildPod, from_source: bool) -> None:
    """Also where packages' code runs in the steps before it, which are told of the proxy without that."""
    told = replace(build, variables=without_credentials(build.variables)) if from_source else build
    made = (
        told.building("0123", "/usr/bin/python3", TARGET, plain_http=()),
        told.installing(["sl"], SYSTEM_TARGET, plain_http=()),
    )
    holders = [
        [name for name, each in containers(pod).items() if {"name": "HTTPS_PROXY", "value": PROXY} in each["env"]]
        for pod in made
    ]
    assert holders == [["push"] if from_source else ["install", "push"], ["push"]]


def test_they_are_none_of_a_workloads_pods(pods: dict[str, dict[str, Any]]) -> None:
    """Whoever looks after workloads must not take them for one."""
    for pod in pods.values():
        assert "moorage.dev/workload" not in pod["metadata"]["labels"]


def test_a_lock_of_any_length_fits_into_the_pod(build: BuildPod, pods: dict[str, dict[str, Any]]) -> None:
    line = "package-{0}=={0} --hash=sha256:{0:064x}\n"
    task = Task(python="/usr/bin/python3", lock="".join(line.format(number) for number in range(10_000)))
    secret = build.inputs(pods["build"], task.encoded())
    assert sum(map(len, secret["data"].values())) < 1 << 20
    assert secret["metadata"]["name"] == pods["build"]["spec"]["volumes"][0]["secret"]["secretName"]
