"""Fault 21: an image can't be had, or takes longer than a start may. Whoever waits is told why, what they hold is given back in the end,
and nobody else waits for them.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.figures import Report, Scale
from tests.kube import fronts
from tests.kube.owners import SOON, STARTED, Owner, Owners
from tests.kube.place import REGISTRY
from tests.kube.release import Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(7200)
ROUNDS = 5
TOLD_S = 15.0
SLOW_S = 600.0  # a pull
REPOSITORY = f"{REGISTRY}/moorage/environments"
SECRET = "pull-from-here"


@pytest.fixture(scope="module")
def ada(owners: Owners) -> Owner:
    return owners("ada")


@pytest.fixture(autouse=True)
def no_image_on_the_machine(ada: Owner) -> None:
    fronts.forget_images(ada.release.node, REPOSITORY)


@pytest.fixture
def wrong_secret(ada: Owner) -> Iterator[str]:
    """By an admin's hand, where no pull secret is set in the chart: it comes to all pods of the namespace."""
    if ada.release.kubectl.get("namespace", ada.namespace) is None:
        ada.stop(ada.ready())
        fronts.forget_images(ada.release.node, REPOSITORY)
    kubectl, auth = ada.release.kubectl, base64.b64encode(b"moorage:wrong").decode()
    content = json.dumps({"auths": {REGISTRY: {"auth": auth}}})
    metadata = {"name": SECRET, "namespace": ada.namespace}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson"}
    kubectl.apply({**kind, "metadata": metadata, "stringData": {".dockerconfigjson": content}})

    def give(names: list[str]) -> None:
        change = json.dumps({"imagePullSecrets": [{"name": name} for name in names]})
        kubectl("patch", "serviceaccount", "default", "-n", ada.namespace, "--type=merge", "-p", change)

    give([SECRET])
    try:
        yield SECRET
    finally:
        give([])
        kubectl("delete", "secret", SECRET, "-n", ada.namespace)


@contextmanager
def starts_of(release: Release, seconds: int | None) -> Iterator[None]:
    """May take so long; None: as long as ever."""
    if seconds is None:
        yield
        return
    release.upgrade({"singleuser": {"startTimeout": seconds}})
    try:
        yield
    finally:
        release.upgrade()


def test_an_image_that_is_gone_from_the_registry_is_told_and_waited_for_in_vain(
    owners: Owners, ada: Owner, scale: Scale, report: Report, tmp_path: Path
) -> None:
    slowest, rounds = 0.0, scale.rounds(ROUNDS, short=1)
    with fronts.empty(owners.release.node, tmp_path):
        for _ in range(rounds):
            begun = time.monotonic()
            notebook = ada.start()
            ada.told(notebook, "Its image was not found in the registry.", within=TOLD_S)
            slowest = max(slowest, time.monotonic() - begun)
            if not scale.full:  # tests/kube/test_spawner.py waits for the end in the short form, too
                ada.stop(notebook)
                continue
            ended = ada.let_go(notebook)
            assert (ended["phase"], ended["reason"].startswith("The notebook server can't start.")) == ("failed", True)
    owners.check()
    report(21, images_gone=rounds, told_within_s=round(slowest, 1))


def test_a_wrong_pull_secret_is_named(
    owners: Owners, ada: Owner, wrong_secret: str, scale: Scale, report: Report, tmp_path: Path
) -> None:
    slowest, rounds = 0.0, scale.rounds(ROUNDS, short=1)
    with fronts.locked(owners.release.node, tmp_path):
        for _ in range(rounds):
            begun = time.monotonic()
            notebook = ada.start()
            ada.told(
                notebook, f"the pull secret {wrong_secret} of the namespace {ada.namespace} is wrong", within=TOLD_S
            )
            slowest = max(slowest, time.monotonic() - begun)
            ada.stop(notebook)
    owners.check()
    report(21, wrong_pull_secrets=rounds, told_within_s=round(slowest, 1))


def test_a_start_that_meets_a_registry_that_is_down_goes_on_when_it_is_back(
    owners: Owners, ada: Owner, scale: Scale, report: Report
) -> None:
    node, slowest, rounds = owners.release.node, 0.0, scale.rounds(ROUNDS, short=1)
    for _ in range(rounds):
        fronts.forget_images(node, REPOSITORY)
        node.stop("docker-registry")
        try:
            begun = time.monotonic()
            notebook = ada.start()
            ada.told(notebook, "The registry that holds its image does not answer.", within=TOLD_S)
            slowest = max(slowest, time.monotonic() - begun)
        finally:
            node.start_registry()
        ada.until(notebook, "ready", within=STARTED)
        ada.stop(notebook)
    owners.check()
    report(21, registry_down=rounds, told_within_s=round(slowest, 1), started_when_it_was_back=rounds)


def test_a_pull_that_takes_long_is_told_and_keeps_nobody_else_waiting(
    owners: Owners, ada: Owner, scale: Scale, report: Report
) -> None:
    """Full: it outlasts what a start may take. Short: its owner gives it up before. The kubelet ends no pull for that, and what a pod
    holds is given back when the pull is over, and the pod gone.
    """
    bob, slowest, rounds = owners("bob"), 0.0, scale.rounds(ROUNDS, short=1)
    within_s = 60 if scale.full else None
    with starts_of(owners.release, within_s):
        for _ in range(rounds):
            fronts.forget_images(owners.release.node, REPOSITORY)
            begun = time.monotonic()
            with fronts.endless(owners.release.node) as asked:
                notebook = ada.start()
                ada.told(notebook, "Its image is being fetched", within=TOLD_S)
                slowest = max(slowest, time.monotonic() - begun)
                assert eventually(asked.is_set, within=TOLD_S, what="the pull")
                with fronts.again(owners.release.node):
                    bob.stop(bob.ready())
                assert ada.notebook(notebook)["phase"] == "starting"
                if within_s is None:
                    ada.api("DELETE", f"/notebooks/{notebook}")
                else:
                    said = f"did not start within {within_s} s. Its image is being fetched"
                    ada.told(notebook, said, within=within_s + SOON)
                    threading.Event().wait(SLOW_S - (time.monotonic() - begun))
            ada.let_go(notebook)
    owners.check()
    report(21, slow_pulls=rounds, told_within_s=round(slowest, 1), others_kept_waiting=0)
