"""What people may write reaches the fields that are meant for it, and no other field of what is started, admitted or accounted."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select

from moorage.wire import ClusterSpec, NotebookAdmission, Size
from moorage_service.clusters import manifests, specs
from moorage_service.context import Context
from moorage_service.errors import BadRequest
from moorage_service.store.tables import ClusterRow, ProjectRow, ReservationRow, UserRow, WorkloadRow
from moorage_spawners.launch import Identity, ProcessSpec
from moorage_spawners.local import ProjectLocalSpawner
from moorage_spawners.options import KEYS, BadOption, read_options
from tests.security.examples import examples
from tests.service.test_engines import HEAD, cluster_plan, local_plan

Headers = dict[str, str]
GIB = 1 << 30
CANARY = "CANARY-4711"
DEFAULT = Size(cpu=1, memory=2 * GIB)

# Names that mean something further down: in a pod, in a process, in the ledger.
TEMPTING = [
    "image",
    "command",
    "args",
    "argv",
    "env",
    "environment",
    "cwd",
    "user",
    "uid",
    "gid",
    "identity",
    "home",
    "labels",
    "annotations",
    "hostPath",
    "hostNetwork",
    "privileged",
    "securityContext",
    "volumes",
    "serviceAccountName",
    "nodeName",
    "tolerations",
    "owner",
    "owner_id",
    "project_id",
    "generation",
    "workload_id",
    "token",
    "admin",
    "groups",
    "target",
    "phase",
    "reservation",
    "holds",
    "parent_id",
    "kernel_argv",
    "python",
    "__class__",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(CANARY)
    | st.text(max_size=8)
    | st.sampled_from(["1", "2GiB", "500m"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TEMPTING, "cpu", "memory"]) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, tree


def changed(template: Any, made: Any) -> set[str]:
    before, after = dict(leaves(template)), dict(leaves(made))
    return {path for path in before.keys() | after.keys() if before.get(path, ...) != after.get(path, ...)}


# Notebooks


@pytest.fixture
def admission(tmp_path: Path) -> NotebookAdmission:
    return an_admission(tmp_path)


def an_admission(tmp_path: Path) -> NotebookAdmission:
    environment = tmp_path / "environments" / "abc"
    environment.mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("version_info = 3.11.2\n")
    return NotebookAdmission(
        workload_id="nb-1",
        generation=3,
        token="moor_t",
        project="starter",
        environment="abc",
        environment_path=str(environment),
        project_files=None,
        home=f"{tmp_path}/homes/us-1",
        uid=1234,
        gid=1234,
        environment_variables={"KEY": "v"},
    )


def notebook_process(tmp_path: Path, admission: NotebookAdmission, size: Size) -> ProcessSpec:
    """By the spawner's own code; the hub's part of the environment stands still."""
    hub = {"JUPYTERHUB_API_TOKEN": "hub-token", "JUPYTERHUB_USER": "ada"}
    spawner: Any = SimpleNamespace(
        state_folder=str(tmp_path),
        service_url="http://127.0.0.1:1",
        address="http://127.0.0.1:2",
        server_python="/s/bin/python",
        session_check_s=60.0,
        get_env=lambda: dict(hub),
        user=SimpleNamespace(name="ada"),
        port=4711,
    )
    identity = Identity(admission.uid, admission.gid, admission.home)
    folder, runtime = f"{admission.home}/starter", tmp_path / "runtime"
    return ProjectLocalSpawner._process(cast(ProjectLocalSpawner, spawner), admission, identity, size, folder, runtime)


@examples(300)
@given(st.dictionaries(st.sampled_from([*KEYS, *TEMPTING]) | st.text(max_size=8), JSON, max_size=5))
def test_options_of_a_notebook_change_its_size_alone(
    tmp_path: Path, admission: NotebookAdmission, given: dict[str, Any]
) -> None:
    try:
        found = read_options(given, "starter", DEFAULT)
    except BadOption as error:
        sentence = str(error)
        assert 10 < len(sentence) < 1000
        return
    assert set(given) <= set(KEYS), "an unknown key is refused, not ignored"
    assert found.project == "starter"
    template = asdict(notebook_process(tmp_path, admission, DEFAULT))
    made = asdict(notebook_process(tmp_path, admission, found.size))
    assert {path.split(".")[1] for path in changed(template, made)} <= {"size"}
    assert CANARY not in json.dumps({**made, "size": None}, default=str)


# Clusters

SIZE = {"cpu": 1, "memory": 2 * GIB, "gpu": 0, "gpu_type": None}
SPEC: dict[str, Any] = {"engine": "ray", "min_workers": 1, "max_workers": 2, "worker": SIZE, "head": SIZE}
TEMPLATE = {engine: TypeAdapter(ClusterSpec).validate_python({**SPEC, "engine": engine}) for engine in ("ray", "dask")}
# What a spec is for: sizes and numbers of workers, wherever they show.
MEANT = (
    "size",
    "resources",
    "num-cpus",
    "num-gpus",
    "memory",
    "object-store-memory",
    "memory-limit",
    "nthreads",
    "replicas",
    "minReplicas",
    "maxReplicas",
    "MOORAGE_AGENT_MIN_WORKERS",
    "MOORAGE_AGENT_WORKER",
    "spec.min_workers",
    "spec.max_workers",
)


def spec_bodies() -> st.SearchStrategy[dict[str, Any]]:
    sizes = st.fixed_dictionaries(
        {"cpu": st.integers(1, 4) | JSON, "memory": st.integers(GIB, 4 * GIB) | JSON},
        optional={"gpu": st.just(0) | JSON, "gpu_type": JSON, **dict.fromkeys(TEMPTING[:6], JSON)},
    )
    return st.fixed_dictionaries(
        {"engine": st.sampled_from(["ray", "dask"]) | JSON, "worker": sizes | JSON},
        optional={
            "min_workers": st.integers(0, 3) | JSON,
            "max_workers": st.integers(1, 4) | JSON,
            "head": sizes,
            **dict.fromkeys(TEMPTING[:6], JSON),
        },
    )


def rendered(spec: ClusterSpec) -> dict[str, Any]:
    """All that is made of a spec: processes of this machine, and the operators' manifests."""
    plan = cluster_plan(spec)
    target = manifests.Target(name="cl-x", namespace="ns", image="registry/image@sha256:0", labels={"owner": "ada"})
    if spec.engine == "ray":
        manifest = manifests.ray_cluster(plan, target, ray_version="2.60.0", workers=1)
    else:
        manifest = manifests.dask_cluster(plan, target, workers=1)
    return {"local": asdict(local_plan(spec)), "manifest": json.loads(json.dumps(manifest))}


def without_what_is_meant(made: Any) -> Any:
    """Commands as lists hold flags as text: `--nthreads=2`; compared by their names."""
    text = json.loads(json.dumps(made))

    def cleaned(tree: Any) -> Any:
        if isinstance(tree, dict):
            if tree.get("name") in MEANT and "value" in tree:
                return {"name": tree["name"]}
            return {
                key: cleaned(value)
                for key, value in tree.items()
                if key not in MEANT and key not in ("spec.min_workers",)
            }
        if isinstance(tree, list):
            return [cleaned(item) for item in tree]
        if isinstance(tree, str) and tree.startswith("--") and tree[2:].partition("=")[0] in MEANT:
            return tree.partition("=")[0]
        return tree

    text["local"].pop("spec")
    return cleaned(text)


@examples(250)
@given(spec_bodies())
def test_a_cluster_spec_changes_sizes_and_numbers_alone(body: dict[str, Any]) -> None:
    try:
        spec = TypeAdapter(ClusterSpec).validate_python(body)
        specs.check(spec, spec.head or HEAD, max_workers=50, gpu_types=("a100",))
    except (ValidationError, BadRequest):
        return
    assert set(body) <= set(SPEC)
    assert set(body["worker"]) <= set(SIZE)
    made = rendered(spec)
    assert changed(without_what_is_meant(rendered(TEMPLATE[spec.engine])), without_what_is_meant(made)) == set()
    assert CANARY not in json.dumps(made)


@examples(60)
@given(st.dictionaries(st.sampled_from(["project", "name", *TEMPTING]), JSON, max_size=4), spec_bodies())
def test_a_cluster_is_its_callers_in_the_project_named_whatever_is_sent(
    client: TestClient, context: Context, project: ProjectRow, ada: Headers, more: dict[str, Any], spec: dict[str, Any]
) -> None:
    body = {"project": "starter", **more, "spec": spec}
    answer = client.post(
        "/api/v1/clusters", headers={**ada, "Content-Type": "application/json"}, content=json.dumps(body)
    )
    if answer.status_code != 201:
        assert answer.status_code in (400, 404, 409, 422), answer.text
        return
    assert set(body) <= {"project", "name", "spec"}
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, answer.json()["id"])
        row = session.get_one(ClusterRow, workload.id)
        held = session.scalars(select(ReservationRow).where(ReservationRow.workload_id == workload.id)).one()
        owner = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        assert (workload.owner_id, workload.project_id, workload.parent_id) == (owner.id, project.id, None)
        assert (workload.generation, workload.target, workload.kind) == (1, "running", "cluster")
        assert (workload.environment, held.workload_id) == (project.environment, workload.id)
        assert set(row.spec) <= set(SPEC)
    client.delete(f"/api/v1/clusters/{answer.json()['id']}", headers=ada)
