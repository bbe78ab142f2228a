"""Whatever users and projects are called: what is made for them in a cluster has valid names and labels, and nobody else's."""

import re
from collections.abc import Iterator
from typing import Any

from moorage.wire import WorkloadKind
from moorage_service.projects.platforms import namespace as builds
from moorage_service.store.tables import new_id
from moorage_service.workloads.lifecycle import PREFIXES
from moorage_spawners.launch.labels import OWNER, PROJECT, WORKLOAD, Ownership
from moorage_spawners.launch.names import namespace_name
from moorage_spawners.launch.namespaces import UserNamespace, claim, objects, pull_secret
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pods import PodSpec, manifest, secret
from tests.security.test_names import PAIRS, names, slugs
from tests.service.notebook_pods_bench import CLUSTER, IMAGE
from tests.spawners.test_pods import SPEC

Object = dict[str, Any]
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # as Kubernetes' own validation has them
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
PREFIX = "moorage"
OF_THE_RELEASE = {"default", "kube-system", CLUSTER.namespace, PREFIX}


def of_a_user(user: UserNamespace) -> Iterator[Object]:
    """By the service's own code."""
    yield from objects(user, CLUSTER.release_settings())
    yield claim(user, capacity="1Gi", storage_class="", access_modes=["ReadWriteOnce"])
    yield pull_secret(user, b"{}")


def of_a_notebook(namespace: str, owner: str, slug: str) -> tuple[Object, Object]:
    """The pod, and the Secret that it refers to."""
    whose = Ownership(
        workload_id=new_id(PREFIXES[WorkloadKind.NOTEBOOK]), generation=1, kind="notebook", role="server", owner=owner, project=slug
    )  # fmt: skip
    spec = PodSpec(
        ownership=whose, namespace=namespace, image=IMAGE, argv=("python",), env={}, size=SPEC.size, home="/home/jovyan",
        home_claim="home", secret_name=whose.workload_id,
    )  # fmt: skip
    return manifest(spec, PodSettings()), secret(whose, namespace, whose.workload_id, {})


def key(each: Object) -> tuple[str, str, str]:
    metadata = each["metadata"]
    return each["kind"], metadata.get("namespace", ""), metadata["name"]


def is_valid(each: Object) -> bool:
    metadata = each["metadata"]
    return (
        NAME.fullmatch(metadata["name"]) is not None
        and (each["kind"] == "Namespace" or NAME.fullmatch(metadata["namespace"]) is not None)
        and all(LABEL.fullmatch(value) for value in metadata["labels"].values())
    )


def test_no_two_pairs_share_a_pod_a_claim_a_secret_or_a_namespace() -> None:
    projects = slugs(50)
    people = names(PAIRS // len(projects), seed=3)
    seen: set[tuple[str, str, str]] = set()
    labels: set[tuple[str, str]] = set()  # owner and project of each pair
    workloads: set[str] = set()
    made = 0
    for name in people:
        owner = new_id("us")
        user = UserNamespace(name=namespace_name(PREFIX, owner, name), owner=owner)
        assert user.name not in OF_THE_RELEASE | {builds.name(CLUSTER)}
        found = list(of_a_user(user))
        for slug in projects:
            pod, its_secret = of_a_notebook(user.name, owner, slug)
            found += [pod, its_secret]
            labels.add((pod["metadata"]["labels"][OWNER], pod["metadata"]["labels"][PROJECT]))
            workloads.add(pod["metadata"]["labels"][WORKLOAD])
            claims = [
                each["persistentVolumeClaim"] for each in pod["spec"]["volumes"] if "persistentVolumeClaim" in each
            ]
            assert claims == [{"claimName": "home"}]
        assert [key(each) for each in found if not is_valid(each)] == []
        made += len(found)
        seen.update(map(key, found))
    assert made == len(seen), "two objects have one name"
    assert len(labels) == len(workloads) == len(people) * len(projects) >= PAIRS


def test_two_users_of_one_name_and_one_user_of_two_names_are_told_apart_by_their_ids() -> None:
    people = names(2000, seed=4)
    once = [namespace_name(PREFIX, new_id("us"), name) for name in people for _ in range(2)]
    assert len(set(once)) == len(once)
    assert namespace_name(PREFIX, "us-1", "ada") == namespace_name(PREFIX, "us-1", "ada")
