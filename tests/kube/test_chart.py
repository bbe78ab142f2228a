"""The chart on a real node: it comes up, a person signs in, parts may die, upgrades keep what must be kept."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moorage.origins import PREFIX
from moorage_spawners.readiness import free_port
from tests.kube.kubectl import KubectlRefused
from tests.kube.namespace import Namespace
from tests.kube.release import NAME, PARTS, Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)  # the first test of a run builds images
ME = f"{PREFIX}/api/v1/me"
RESTRICTED = "pod-security.kubernetes.io/enforce"
MANAGED = "moorage.dev/managed-by"


@pytest.fixture(scope="module")
def person(release: Release) -> Iterator[httpx.Client]:
    with release.browser() as browser:
        assert browser.get(release.link()).status_code == 200
        yield browser


def test_a_person_signs_in_with_the_link_that_the_notes_tell_of(person: httpx.Client) -> None:
    page = person.get(f"{PREFIX}/")
    assert (page.status_code, "Start a notebook" in page.text) == (200, True)
    user = person.get(ME).json()["user"]
    assert (user["name"], user["admin"]) == ("admin", True)


def test_the_way_in_that_the_notes_tell_of_leads_to_it(release: Release) -> None:
    said = next(line for line in release.helm("get", "notes", NAME).splitlines() if "port-forward" in line)
    own, _, inside = said.split()[-1].partition(":")
    assert own == release.url.rpartition(":")[2]
    port = free_port()  # at the one of the notes a browser is led already
    argv = [*said.split()[1:-1], f"{port}:{inside}"]
    with release.kubectl.running(*argv), release.browser() as browser:
        host = {"Host": f"localhost:{own}"}

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return browser.get(f"http://127.0.0.1:{port}/hub/health", headers=host).is_success
            return False

        eventually(answers, what="an answer")


def test_a_second_person_listed_in_the_hubs_pod_is_served_beside_the_first(
    release: Release, person: httpx.Client
) -> None:
    password = release.in_hub("moorage-hub", "user", "add", "grace").split()[-1]
    with release.browser() as browser:
        browser.get("/hub/login").raise_for_status()
        form = {"username": "grace", "password": password, "_xsrf": browser.cookies.get("_xsrf", path="/hub/")}
        assert browser.post("/hub/login", data=form).status_code == 200  # and on to the portal
        user = browser.get(ME).json()["user"]
    assert (user["name"], user["admin"], user["uid"]) == ("grace", False, None)
    assert person.get(ME).json()["user"]["name"] == "admin"
    release.in_hub("moorage-hub", "user", "remove", "grace")


def test_the_page_of_health_finds_the_parts_where_they_are(person: httpx.Client) -> None:
    parts = {part["name"]: part for part in person.get(f"{PREFIX}/api/v1/health").json()["parts"]}
    assert {name for name, part in parts.items() if part["ok"]} >= {"service", "database", "hub", "proxy", "platform"}


def test_a_cluster_is_refused_in_words(person: httpx.Client) -> None:
    page = person.get(f"{PREFIX}/clusters/new")
    assert (page.status_code, "There are no clusters on Kubernetes yet" in page.text) == (200, True)


def test_a_copy_of_what_the_service_keeps_is_made_in_its_pod(release: Release) -> None:
    inside = ["exec", "-n", release.namespace, f"deploy/{NAME}-service", "-c", "service", "--"]
    release.kubectl(*inside, "moorage", "admin", "backup", "/srv/before.tar")
    assert "database/service.sqlite" in release.kubectl(*inside, "tar", "--list", "--file", "/srv/before.tar")


@pytest.mark.parametrize("part", ["hub", "service"])
def test_orphans_in_a_pod_have_somebody_who_takes_their_exit(release: Release, part: str) -> None:
    """Process 1 is one made for that, above whichever program the chart names."""
    said = release.kubectl(
        "exec", "-n", release.namespace, f"deploy/{NAME}-{part}", "-c", part, "--", "cat", "/proc/1/comm"
    )
    assert said.strip() == "tini"


def test_helms_own_test_passes(release: Release) -> None:
    assert "Phase:          Succeeded" in release.helm("test", NAME, "--timeout", "120s")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_dies_is_replaced_and_signs_nobody_out(release: Release, person: httpx.Client, part: str) -> None:
    others = {each: release.pod(each)["metadata"]["uid"] for each in PARTS if each != part}
    release.kill(part)
    eventually(lambda: person.get(ME).status_code == 200, within=60, what="the same session")
    assert {each: release.pod(each)["metadata"]["uid"] for each in others} == others


def test_an_upgrade_keeps_tokens_and_keys_and_leaves_the_proxy_alone(release: Release) -> None:
    def tokens() -> Any:
        found = release.kubectl.get("secret", f"{NAME}-tokens", release.namespace)
        assert found is not None
        return found["data"]

    before, proxy = tokens(), release.pod("proxy")["metadata"]["uid"]
    hub = release.pod("hub")["metadata"]["uid"]
    release.upgrade({"origins": "one"})
    assert tokens() == before
    assert release.pod("hub")["metadata"]["uid"] != hub
    release.helm("rollback", NAME, "1", "--wait", "--timeout", "240s")
    assert tokens() == before
    assert len(before) >= 6
    assert proxy


def allowed(release: Release, part: str, *argv: str) -> bool:
    account = f"system:serviceaccount:{release.namespace}:{NAME}-{part}"
    return release.kubectl.try_run("auth", "can-i", *argv, f"--as={account}").stdout.strip() == "yes"


def test_the_hub_has_no_rights_outside_users_namespaces(release: Release) -> None:
    for verb, kind in (
        ("list", "pods"), ("create", "namespaces"), ("get", "secrets"), ("create", "rolebindings"), ("list", "nodes"),
        ("escalate", "clusterroles"), ("impersonate", "users"),
    ):  # fmt: skip
        assert not allowed(release, "hub", verb, kind, "--all-namespaces"), (verb, kind)
        assert not allowed(release, "hub", verb, kind, "-n", release.namespace), (verb, kind)


def test_nor_has_the_service_any_over_the_cluster_but_namespaces(release: Release) -> None:
    for verb, kind in (
        ("get", "secrets"), ("list", "pods"), ("create", "pods"), ("escalate", "clusterroles"), ("impersonate", "users"),
        ("update", "namespaces"), ("create", "clusterrolebindings"), ("bind", "clusterroles/cluster-admin"), ("list", "nodes"),
    ):  # fmt: skip
        assert not allowed(release, "service", verb, kind, "--all-namespaces"), (verb, kind)
    assert allowed(release, "service", "create", "namespaces")
    assert allowed(release, "service", "bind", f"clusterroles/{NAME}-spawner")


def as_service(release: Release, *manifests: dict[str, Any]) -> None:
    account = f"--as=system:serviceaccount:{release.namespace}:{NAME}-service"
    for each in manifests:
        release.kubectl("create", account, "-f", "-", stdin=json.dumps(each))


def user_namespace(release: Release, name: str, **labels: str) -> dict[str, Any]:
    ours = {MANAGED: f"{release.namespace}.{NAME}", RESTRICTED: "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**ours, **labels}}}


def binding(release: Release, namespace: str, role: str, account: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": release.namespace}],
    }  # fmt: skip


def test_the_service_makes_namespaces_of_our_label_name_and_security_alone(release: Release) -> None:
    for manifest, said in (
        (user_namespace(release, "moorage-ada", **{MANAGED: "another"}), "only namespaces with the label"),
        (user_namespace(release, "kube-ada"), "whose name begins with moorage-"),
        (user_namespace(release, "moorage-ada", **{RESTRICTED: "privileged"}), "enforce Pod Security restricted"),
    ):
        with pytest.raises(KubectlRefused, match=said):
            as_service(release, manifest)
    with pytest.raises(KubectlRefused, match="only namespaces with the label"):
        release.kubectl(
            "delete", "namespace", release.namespace, f"--as=system:serviceaccount:{release.namespace}:{NAME}-service"
        )


def test_it_binds_two_roles_in_them_and_no_other_role_account_or_namespace(release: Release) -> None:
    as_service(release, user_namespace(release, "moorage-ada"))
    try:
        for manifest, said in (
            (binding(release, "moorage-ada", "cluster-admin", f"{NAME}-service"), "forbidden|cluster-admin"),
            (
                binding(release, "moorage-ada", f"{NAME}-spawner", f"{NAME}-service"),
                "the spawner's role to the hub's account",
            ),
            (binding(release, "default", f"{NAME}-spawner", f"{NAME}-hub"), "only in namespaces with the label"),
        ):
            with pytest.raises(KubectlRefused, match=said):
                as_service(release, manifest)
        as_service(
            release,
            binding(release, "moorage-ada", f"{NAME}-spawner", f"{NAME}-hub"),
            binding(release, "moorage-ada", f"{NAME}-workloads", f"{NAME}-service"),
        )
        assert allowed(release, "hub", "create", "pods", "-n", "moorage-ada")
        assert not allowed(release, "hub", "get", "secrets", "-n", "moorage-ada")
        assert allowed(release, "service", "create", "secrets", "-n", "moorage-ada")
    finally:
        release.kubectl("delete", "namespace", "moorage-ada", "--wait=false")


def test_strangers_in_the_cluster_reach_the_proxy_and_nothing_behind_it(release: Release, namespace: Namespace) -> None:
    namespace.idle("stranger")
    addresses = {part: f"{NAME}-{part}.{release.namespace}" for part in ("hub", "service", "proxy-api", "proxy-public")}
    assert namespace.connects("stranger", addresses["proxy-public"], 80)
    for part, port in (("hub", 8081), ("service", 8090), ("proxy-api", 8001)):
        assert not namespace.connects("stranger", addresses[part], port), part
    policy = f"{NAME}-hub"
    release.kubectl("delete", "networkpolicy", policy, "-n", release.namespace)
    eventually(lambda: namespace.connects("stranger", addresses["hub"], 8081), within=60, what="the open hub")
    release.upgrade()
