"""Why a pod does not start on its machine, by what Kubernetes 1.36 and containerd 2 say, and those before them."""

from typing import Any

import pytest

from moorage_spawners.launch.reasons import explain
from tests.fakes.pods import event, pod, waiting
from tests.spawners.told import NOW, code

DIGEST = "reg.example.org/tide@sha256:0"
RESOLVE = f'failed to pull and unpack image "{DIGEST}": failed to resolve reference "{DIGEST}": '


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f"rpc error: code = NotFound desc = {RESOLVE}{DIGEST}: not found", "image.missing"),
        (
            RESOLVE
            + "unexpected status from HEAD request to https://reg.example.org/v2/tide/manifests/sha256:0: 401 Unauthorized",
            "image.denied",
        ),
        (
            RESOLVE
            + "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://a/token: 403 Forbidden",
            "image.denied",
        ),
        (
            RESOLVE
            + "pull access denied, repository does not exist or may require authorization: insufficient_scope: authorization failed",
            "image.denied",
        ),
        (
            RESOLVE
            + 'failed to do request: Head "https://reg.example.org/v2/": dial tcp: lookup reg.example.org on 10.96.0.10:53: no such host',
            "image.registry_away",
        ),
        (
            RESOLVE
            + 'failed to do request: Head "https://reg.example.org/v2/": dial tcp 10.0.0.9:443: connect: connection refused',
            "image.registry_away",
        ),
        (
            RESOLVE + "failed to authorize: failed to fetch oauth token: Post: dial tcp 10.0.0.9:443: i/o timeout",
            "image.registry_away",
        ),
        (
            RESOLVE + "unexpected status from HEAD request to https://reg.example.org/v2/: 503 Service Unavailable",
            "image.registry_away",
        ),
        (f"image pull failed for {DIGEST} because the registry is unavailable: connection lost", "image.registry_away"),
        (
            RESOLVE + "unexpected status from HEAD request to https://reg.example.org/v2/: 429 Too Many Requests",
            "image.registry_busy",
        ),
        (
            RESOLVE
            + 'failed to do request: Head "https://reg.example.org/v2/": tls: failed to verify certificate: x509: unknown authority',
            "image.untrusted",
        ),
        (
            f'failed to pull and unpack image "{DIGEST}": failed to extract layer: write /usr/lib/x.so: no space left on device',
            "image.no_space",
        ),
        ("something nobody has seen", "image.failed"),
    ],
)
@pytest.mark.parametrize("told", ["at once", "while it waits", "by an event alone"])
def test_what_the_registry_says(said: str, expected: str, told: str) -> None:
    states = {
        "at once": waiting("ErrImagePull", said),
        "while it waits": waiting("ImagePullBackOff", f'Back-off pulling image "{DIGEST}": ErrImagePull: {said}'),
        "by an event alone": waiting("ImagePullBackOff", f'Back-off pulling image "{DIGEST}"'),
    }
    failed = event("Failed", f'Failed to pull image "{DIGEST}": {said}')
    events = [failed, event("Failed", "Error: ErrImagePull"), event("BackOff", "Back-off pulling image")]
    assert code(pod(states[told]), *(events if told == "by an event alone" else [])) == expected


@pytest.mark.parametrize(
    ("state", "events", "expected"),
    [
        (waiting("InvalidImageName", "Failed to apply default image tag"), [], "image.invalid"),
        (
            waiting("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never'),
            [],
            "image.missing",
        ),
        (
            waiting("SignatureValidationFailed", "image pull failed because the signature validation failed"),
            [],
            "image.untrusted",
        ),
        (waiting("CreateContainerConfigError", 'secret "nb-1" not found'), [], "pod.secret_missing"),
        (
            waiting("CreateContainerConfigError", "couldn't find key token in Secret moorage-ada/nb-1"),
            [],
            "pod.secret_missing",
        ),
        (waiting("CreateContainerError", "context deadline exceeded"), [], "pod.cannot_start"),
        (
            waiting("RunContainerError", 'exec: "jupyterhub-singleuser": executable file not found in $PATH'),
            [],
            "pod.program_missing",
        ),
        (
            waiting("ContainerCreating"),
            [event("FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=bridge")],
            "pod.no_network",
        ),
        (
            waiting("ContainerCreating"),
            [event("FailedMount", 'MountVolume.SetUp failed for volume "pvc-1" : mount failed: exit status 32')],
            "volume.mount_failed",
        ),
        (
            waiting("ContainerCreating"),
            [
                event(
                    "FailedMount",
                    "Unable to attach or mount volumes: [home]: timed out waiting for the condition",
                )
            ],
            "volume.mount_failed",
        ),
        (
            waiting("ContainerCreating"),
            [event("FailedMount", 'MountVolume.SetUp failed for volume "x" : secret "nb-1" not found')],
            "pod.secret_missing",
        ),
        (
            waiting("ContainerCreating"),
            [event("FailedMount", "MountVolume.SetUp failed: mkdir /home: no space left on device")],
            "volume.full",
        ),
        (
            waiting("ContainerCreating"),
            [
                event(
                    "FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) nb-0'
                )
            ],
            "volume.in_use",
        ),
        (
            waiting("ContainerCreating"),
            [event("FailedAttachVolume", 'AttachVolume.Attach failed for volume "pvc-1" : rpc error')],
            "volume.attach_failed",
        ),
        (waiting("ContainerCreating"), [], None),
        (None, [], None),
    ],
)
def test_what_the_machine_says(
    state: dict[str, Any] | None, events: list[dict[str, Any]], expected: str | None
) -> None:
    assert code(pod(state), *events) == expected


def test_an_image_that_is_denied_names_the_pull_secret_to_look_at() -> None:
    said = waiting("ErrImagePull", RESOLVE + "unexpected status from HEAD request to https://reg.example.org/v2/: 401 Unauthorized")
    secrets = {"imagePullSecrets": [{"name": "moorage-pull"}]}
    with_one = explain(pod(said, spec={"nodeName": "node-1", **secrets}), [], NOW)
    without = explain(pod(said), [], NOW)
    assert with_one is not None
    assert without is not None
    assert "the pull secret moorage-pull of the namespace moorage-ada is wrong" in with_one.sentence
    assert "the pod has none" in without.sentence


def test_an_image_on_its_way_is_told_with_its_seconds() -> None:
    pulling = event("Pulling", f'Pulling image "{DIGEST}"')
    reason = explain(pod(waiting("ContainerCreating")), [pulling], NOW)
    assert reason is not None
    assert (reason.code, reason.waits) == ("image.pulling", True)
    assert "for 75 s" in reason.sentence
    pulled = event("Pulled", f'Successfully pulled image "{DIGEST}" in 60s', at="2026-11-21T20:01:00Z")
    assert code(pod(waiting("ContainerCreating")), pulling, pulled) is None


def test_a_mount_that_came_in_the_end_is_no_reason_any_more() -> None:
    failed = event("FailedMount", "MountVolume.SetUp failed", at="2026-11-21T20:00:00Z")
    pulling = event("Pulling", "Pulling image", at="2026-11-21T20:01:00Z")
    assert code(pod(waiting("ContainerCreating")), pulling, failed) == "image.pulling"
    assert code(pod({"running": {}}, phase="Running"), failed) is None


def test_events_of_an_earlier_pod_of_the_name_are_not_believed() -> None:
    earlier = event("FailedMount", "MountVolume.SetUp failed", involvedObject={"kind": "Pod", "uid": "other"})
    assert code(pod(waiting("ContainerCreating")), earlier) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"lastTimestamp": None, "eventTime": "2026-11-21T20:00:15.123456Z"},
        {"lastTimestamp": None, "firstTimestamp": "2026-11-21T20:00:15Z"},
        {"lastTimestamp": None, "series": {"count": 3, "lastObservedTime": "2026-11-21T20:00:15.0Z"}},
    ],
)
def test_an_event_says_its_time_in_any_of_four_ways(fields: dict[str, Any]) -> None:
    reason = explain(pod(waiting("ContainerCreating")), [event("Pulling", "Pulling image", **fields)], NOW)
    assert reason is not None
    assert "for 60 s" in reason.sentence
