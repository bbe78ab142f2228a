"""What people may write reaches the size of a notebook's pod, and nothing else of it; by no door comes in what pods have beside."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.spawner import SpawnException

from moorage.wire import Size
from moorage_images.errors import ManifestError as BadManifest
from moorage_images.manifest import parse
from moorage_service.context import Context
from moorage_service.projects import secrets
from moorage_service.store.tables import ProjectRow, SecretRow, UserRow
from moorage_spawners import notebook_pod
from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pods import manifest
from moorage_spawners.notebook_pod import Installation
from moorage_spawners.options import KEYS, BadOption, read_options
from moorage_spawners.server import Addresses
from tests.fakes.hub import FakeHub
from tests.fakes.pod_security import violations
from tests.security.examples import examples
from tests.security.test_specs import CANARY, DEFAULT, JSON, changed
from tests.service.portal_bench import SMALL, sign_in
from tests.spawners.kube_scene import ADMISSION, Scene, scene
from tests.waiting import eventually

Headers = dict[str, str]
CLAIM = {"name": "theirs", "persistentVolumeClaim": {"claimName": "home"}}
PROGRAM = {"name": "evil", "image": "evil", "command": ["sh"], "securityContext": {"privileged": True}}
# What a pod can have, what KubeSpawner's options can say, and what is counted by: each of them refused by every door.
HOSTILE: dict[str, Any] = {
    "hostPath": {"path": "/"},
    "hostNetwork": True,
    "hostPID": True,
    "hostIPC": True,
    "privileged": True,
    "allowPrivilegeEscalation": True,
    "capabilities": {"add": ["SYS_ADMIN"]},
    "runAsUser": 0,
    "runAsNonRoot": False,
    "securityContext": {"runAsUser": 0},
    "serviceAccountName": "moorage-service",
    "service_account": "moorage-service",
    "automountServiceAccountToken": True,
    "containers": [PROGRAM],
    "initContainers": [PROGRAM],
    "init_containers": [PROGRAM],
    "extra_containers": [PROGRAM],
    "volumes": [CLAIM],
    "volumeMounts": [{"name": "theirs", "mountPath": "/theirs"}],
    "home_claim": "home",
    "secret_name": "nb-2-token",
    "namespace": "moorage-bob",
    "nodeName": "node-1",
    "nodeSelector": {"pool": "core"},
    "priorityClassName": "system-node-critical",
    "tolerations": [{"operator": "Exists"}],
    "runtimeClassName": "none",
    "image": "evil.example.org/x:1",
    "command": ["sh"],
    "args": ["-c", "id"],
    "env": {"NVIDIA_VISIBLE_DEVICES": "all"},
    "envFrom": [{"secretRef": {"name": "nb-2-token"}}],
    "labels": {"moorage.dev/owner": "us-2"},
    "annotations": {"moorage.dev/owner": "us-2"},
    "moorage.dev/owner": "us-2",
    "app.kubernetes.io/managed-by": "me",
    "kueue.x-k8s.io/queue-name": "everybodys",
    "profile": "large",
    "kubespawner_override": {"image": "evil"},
    "extra_pod_config": {"hostNetwork": True},
    "extra_resource_limits": {"nvidia.com/gpu": "8"},
    "owner": "us-2",
    "generation": 7,
    "__class__": "x",
}
HERE = Installation(
    addresses=Addresses("http://service/api/v1", "https://moorage.example.org"), home="/home/jovyan", uid=1000, gid=100, port=8888,
    start_within_s=60, grace_s=10, session_check_s=60.0,
)  # fmt: skip
SETTINGS = PodSettings(gpu_node_labels={"t4": {"gpu": "t4"}})
# Of a pod a size may show here, and nowhere else.
OF_A_SIZE = (".spec.containers[0].resources.", ".spec.nodeSelector.gpu", ".spec.volumes[2].emptyDir.sizeLimit")


def pod(size: Size) -> dict[str, Any]:
    """By the spawner's own code; the hub's part of the environment stands still."""
    hub = {"JUPYTERHUB_API_TOKEN": "hub-token", "JUPYTERHUB_USER": "ada"}
    spec = notebook_pod.spec(ADMISSION, size, user="ada", hub=hub, base_url="/user/ada/tide/", here=HERE)
    return manifest(spec, SETTINGS)


def variables(made: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in made["spec"]["containers"][0].pop("env")}


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from([2, "500m", 1.5]) | JSON,
        "memory": st.sampled_from(["4GiB", 1 << 30]) | JSON,
        "gpu": st.sampled_from([0, 1, 2]) | JSON,
        "gpu_type": st.just("t4") | JSON,
        "project": st.just("tide") | JSON,
        **dict.fromkeys(list(HOSTILE)[:8], JSON),
    },
)


@examples(400)
@given(OPTIONS)
def test_a_tree_as_options_changes_the_size_of_its_pod_alone(given: dict[str, Any]) -> None:
    try:
        size = read_options(given, "tide", DEFAULT).size
        made = pod(size)
    except (BadOption, ManifestError) as error:
        sentence = str(error)
        assert 10 < len(sentence) < 1000
        return
    assert set(given) <= set(KEYS), "an unknown key is refused, not ignored"
    template = pod(DEFAULT)
    before, after = variables(template), variables(made)
    told = {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"}  # that there is none, to a pod without GPUs
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= told
    assert after.keys() & told == (set() if size.gpu else told)
    assert {path for path in changed(template, made) if not path.startswith(OF_A_SIZE)} == set()
    assert CANARY not in json.dumps(made)
    assert violations(made["spec"]) == []


@pytest.mark.parametrize("name", ["NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "LD_PRELOAD"])
def test_a_secret_that_was_stored_under_such_a_name_reaches_no_workload(
    context: Context, project: ProjectRow, ada: Headers, name: str
) -> None:
    """Some machines show a container the GPUs that a variable of its own names, whatever was admitted."""
    with context.database.begin() as session:
        user = session.query(UserRow).filter_by(hub_name="ada").one()
        for each in (name, "KEY"):
            sealed = context.vault.seal("all")
            session.add(SecretRow(scope="user", scope_id=user.id, name=each, sealed=sealed, updated_at=context.clock()))
        session.flush()
        assert secrets.values(session, context.vault, user_id=user.id, project_id=project.id) == {"KEY": "all"}


@pytest.fixture
async def kube(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as made:
        yield made


def nested(key: str, value: Any) -> Iterator[dict[str, Any]]:
    """Options of the hub that hold it: beside those there are, in their place, and within them."""
    yield {key: value}
    yield {"cpu": "1", key: value}
    yield {key: [value]}
    for name in KEYS:
        yield {name: {key: value}}
        yield {name: [{key: value}]}


async def test_the_hub_takes_no_option_of_a_pod(kube: Scene) -> None:
    spawner = kube.spawner()
    for key, value in HOSTILE.items():
        for options in nested(key, value):
            with pytest.raises(SpawnException):
                spawner.apply_options(options)
    assert kube.kubernetes.objects() == []


def test_the_api_takes_no_field_of_a_pod(
    client: TestClient, project: ProjectRow, ada: Headers, spawner: Headers
) -> None:
    size = {"cpu": 1, "memory": 1 << 30}
    admitted = {"user": "ada", "admin": False, "groups": [], "project": "starter", "size": size}
    for key, value in HOSTILE.items():
        more = {key: value}
        for headers, path, body in (
            (ada, f"/projects/{project.slug}/notebook", {**size, **more}),
            (spawner, "/notebooks", {**admitted, **more}),
            (spawner, "/notebooks", {**admitted, "size": {**size, **more}}),
            (ada, "/projects", {"slug": "fish", "manifest": "name: Fish\n", **more}),
        ):
            answer = client.post(f"/api/v1{path}", headers=headers, json=body)
            assert answer.status_code in (400, 422), f"{path} {body}: {answer.text}"
    assert client.get("/api/v1/notebooks", headers=ada).json() == []


def test_the_portals_form_asks_the_hub_for_a_size_alone(
    client: TestClient, context: Context, hub: FakeHub, project: ProjectRow, ada: Headers
) -> None:
    visitor = sign_in(client, context, ada, "ada")
    more = {key: json.dumps(value) for key, value in HOSTILE.items()}
    visitor.post("/start", {**more, "project": project.slug, **SMALL})
    eventually(lambda: ("ada", project.slug) in hub.servers, what="the start")
    assert set(hub.servers["ada", project.slug]) == set(KEYS)


SIZE = {"cpu": 1, "memory": "2GiB"}
CLUSTER = {"worker": SIZE}
JOB = {"notebook": "a.ipynb", "size": SIZE, "cluster": {"engine": "ray", **CLUSTER}}
WHOLE = {"name": "Fish", "packages": ["pandas"], "clusters": {"ray": CLUSTER}, "jobs": {"nightly": JOB}}


def with_more(tree: Any, more: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """The document with these keys in one of its mappings; but where keys are names that people give."""
    if isinstance(tree, dict):
        if place != ".jobs":
            yield place, {**tree, **more}
        for name, part in tree.items():
            for found, changed_part in with_more(part, more, f"{place}.{name}"):
                yield found, {**tree, name: changed_part}


@pytest.mark.parametrize("key", HOSTILE)
def test_moorage_yaml_takes_no_field_of_a_pod(key: str) -> None:
    parse(json.dumps(WHOLE), ["3.11"])
    tried = list(with_more(WHOLE, {key: HOSTILE[key]}))
    assert len(tried) == 8
    for place, document in tried:
        with pytest.raises(BadManifest) as refused:
            parse(json.dumps(document), ["3.11"])
        assert len(str(refused.value)) > 10, place
