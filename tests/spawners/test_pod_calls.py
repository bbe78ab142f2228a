"""Pods are started and ended through the API: once each, whatever happens to the answers."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from moorage_spawners.launch.api_objects import Resource, Unanswered
from moorage_spawners.launch.errors import LaunchError, ManifestError, OtherGenerationError, PodRefusedError
from moorage_spawners.launch.labels import OURS
from moorage_spawners.launch.namespaces import UserNamespace, objects
from moorage_spawners.launch.pod_calls import PodCalls
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pods import PodSpec
from moorage_spawners.launch.watch import Watcher
from tests.fakes.kubernetes import FakeKubernetes, serving
from tests.spawners.test_namespaces import RELEASE
from tests.spawners.test_pods import SPEC
from tests.spawners.watching import QUICK

NAMESPACE, NAME = SPEC.namespace, SPEC.name


@dataclass
class Scene:
    kubernetes: FakeKubernetes
    watcher: Watcher
    calls: PodCalls


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    kubernetes = FakeKubernetes()
    async with serving(kubernetes) as api, Watcher([Resource(api, "pods", labels=OURS)], timing=QUICK) as watcher:
        yield Scene(kubernetes, watcher, PodCalls(api, watcher, PodSettings()))


def generation(number: int) -> PodSpec:
    return replace(SPEC, ownership=replace(SPEC.ownership, generation=number))


async def test_a_pod_is_made_once_and_seen_at_once(scene: Scene) -> None:
    first = await scene.calls.start(SPEC)
    assert scene.watcher.get(NAMESPACE, NAME) == first
    again = await scene.calls.start(SPEC)
    assert again["metadata"]["uid"] == first["metadata"]["uid"]


async def test_an_answer_that_was_lost_starts_no_second_pod(scene: Scene) -> None:
    scene.kubernetes.lost_answers = 1
    with pytest.raises(Unanswered):
        await scene.calls.start(SPEC)
    made = await scene.calls.start(SPEC)
    assert made["metadata"]["name"] == NAME
    assert len([each for each in scene.watcher.objects() if each["metadata"]["name"] == NAME]) == 1


async def test_a_generation_waits_for_the_end_of_the_earlier_one_and_never_follows_a_later(scene: Scene) -> None:
    await scene.calls.start(generation(2))
    with pytest.raises(OtherGenerationError, match="Generation 2 of nb-k3x9/server still runs"):
        await scene.calls.start(generation(3))
    scene.kubernetes.put(
        "nb-k3x9-2",
        NAMESPACE,
        metadata=dict((await scene.calls.start(generation(2)))["metadata"]),
        status={"phase": "Failed"},
    )
    await scene.calls.start(generation(3))
    with pytest.raises(OtherGenerationError, match="Generation 1 of nb-k3x9/server is outdated"):
        await scene.calls.start(generation(1))


async def test_a_namesake_that_is_not_ours_is_left_alone(scene: Scene) -> None:
    scene.kubernetes.put(NAME, NAMESPACE, metadata={"labels": {}})
    with pytest.raises(OtherGenerationError, match="not ours"):
        await scene.calls.start(SPEC)
    await scene.calls.stop("nb-k3x9", NAMESPACE)
    assert scene.kubernetes.ended == []


async def test_a_refusal_is_told_with_its_reason(scene: Scene) -> None:
    quota = f'pods "{NAME}" is forbidden: exceeded quota: moorage, requested: pods=1, used: pods=20, limited: pods=20'
    scene.kubernetes.refusals = [(403, "Forbidden", quota)]
    with pytest.raises(PodRefusedError, match="Stop something of yours") as caught:
        await scene.calls.start(SPEC)
    assert (caught.value.code, caught.value.waits) == ("pod.quota", False)


async def test_a_quota_that_is_counted_by_others_at_the_same_time_is_tried_again(scene: Scene) -> None:
    conflict = (
        409,
        "Conflict",
        'Operation cannot be fulfilled on resourcequotas "moorage": the object has been modified',
    )
    scene.kubernetes.refusals = [conflict] * 3
    assert (await scene.calls.start(SPEC))["metadata"]["name"] == NAME


SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/nb-k3x9"


async def test_secrets_are_given_by_reference_and_go_with_the_pod(scene: Scene) -> None:
    made = await scene.calls.start(SPEC, {"token": "moor_canary"})
    secret = scene.kubernetes.made[SECRET]
    assert base64.b64decode(secret["data"]["token"]) == b"moor_canary"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert secret["metadata"]["labels"]["moorage.dev/workload"] == "nb-k3x9"
    assert "canary" not in str(made)


async def test_a_secret_that_a_start_left_behind_is_renewed_and_one_in_use_is_not(scene: Scene) -> None:
    scene.kubernetes.refusals = [(503, "ServiceUnavailable", "etcdserver: leader changed")]
    with pytest.raises(Unanswered):
        await scene.calls.start(SPEC, {"token": "first"})
    await scene.calls.start(SPEC, {"token": "second"})
    del scene.kubernetes.made[SECRET]["metadata"]["ownerReferences"]  # as if that call had been cut off
    await scene.calls.start(SPEC, {"token": "third"})
    assert scene.kubernetes.made[SECRET]["metadata"]["ownerReferences"]
    assert base64.b64decode(scene.kubernetes.made[SECRET]["data"]["token"]) == b"second"


async def test_a_secret_with_other_keys_than_the_pod_refers_to_is_refused(scene: Scene) -> None:
    for wrong in ({}, {"token": "1", "more": "2"}):
        with pytest.raises(ManifestError, match="no more and no fewer"):
            await scene.calls.start(SPEC, wrong)


async def test_a_server_that_is_busy_is_no_refusal(scene: Scene) -> None:
    scene.kubernetes.refusals = [(503, "ServiceUnavailable", "etcdserver: leader changed")]
    with pytest.raises(Unanswered):
        await scene.calls.start(SPEC)


async def test_an_end_is_asked_for_of_that_very_pod(scene: Scene) -> None:
    made = await scene.calls.start(SPEC)
    await scene.calls.stop("nb-k3x9", NAMESPACE, generation=1)
    assert scene.kubernetes.ended == []
    await scene.calls.stop("nb-k3x9", NAMESPACE, grace_s=5)
    options = {"gracePeriodSeconds": 5, "preconditions": {"uid": made["metadata"]["uid"]}}
    assert scene.kubernetes.ended == [(NAME, options)]


async def test_what_is_gone_already_is_no_error(scene: Scene) -> None:
    await scene.calls.stop("nb-none", NAMESPACE)


async def test_who_may_no_longer_act_starts_and_ends_nothing(scene: Scene) -> None:
    def fenced() -> None:
        raise LaunchError("another process leads now")

    await scene.calls.start(SPEC)
    scene.calls.guard = fenced
    another = replace(SPEC, ownership=replace(SPEC.ownership, workload_id="nb-m2p7"))
    with pytest.raises(LaunchError, match="another process"):
        await scene.calls.start(another, {"token": "1"})
    with pytest.raises(LaunchError, match="another process"):
        await scene.calls.stop("nb-k3x9", NAMESPACE)
    assert scene.kubernetes.ended == []
    assert scene.kubernetes.made == {}
    assert [each["metadata"]["name"] for each in scene.watcher.objects()] == [NAME]


async def test_a_namespace_is_made_in_order_and_may_be_made_again(scene: Scene) -> None:
    wanted = objects(UserNamespace(name="moorage-ada-x", owner="us-1"), RELEASE)
    await scene.calls.make(wanted)
    await scene.calls.make(wanted)
    assert next(iter(scene.kubernetes.made)) == "/api/v1/namespaces/moorage-ada-x"
    assert "/apis/networking.k8s.io/v1/namespaces/moorage-ada-x/networkpolicies/deny-all" in scene.kubernetes.made
    assert (
        "/apis/rbac.authorization.k8s.io/v1/namespaces/moorage-ada-x/rolebindings/tide-workloads"
        in scene.kubernetes.made
    )
    assert len(scene.kubernetes.made) == len(wanted)
