"""What people may write reaches the fields that are meant for it, and no other field of what is started, admitted or accounted."""

import copy
import json
import string
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
from moorage_images import environments
from moorage_images.errors import ManifestError
from moorage_images.manifest import parse
from moorage_service.clusters import manifests, specs
from moorage_service.context import Context
from moorage_service.errors import BadRequest
from moorage_service.store.tables import ClusterRow, ProjectRow, ReservationRow, UserRow, WorkloadRow
from moorage_spawners.launch import Identity, ProcessSpec
from moorage_spawners.local import ProjectLocalSpawner
from moorage_spawners.options import KEYS, BadOption, read_options
from tests.security.examples import examples
from tests.service.test_bad_input import BODIES
from tests.service.test_engines import HEAD, cluster_plan, local_plan
from tests.service.test_routes import routes_of
from tests.service.world import make_world

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
    (environment / "moorage-environment.json").write_text('{"python": "3.11.2"}')
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


# What is accounted, by every route

ACCOUNTED = [
    "owner",
    "owner_id",
    "user",
    "user_id",
    "project_id",
    "generation",
    "labels",
    "uid",
    "admin",
    "holds",
    "environment",
    "token",
]
FREE = {"parameters", "versions"}  # whose keys are the notebook's own, or an engine's


def with_surplus(body: Any, key: str) -> Iterator[Any]:
    """The body with one key too many, in each of its objects."""
    if isinstance(body, dict):
        if key not in body:
            yield {**body, key: "x"}
        for name, part in body.items():
            for changed_part in with_surplus(part, key) if name not in FREE else ():
                yield {**body, name: changed_part}
    elif isinstance(body, list) and body:
        for changed_part in with_surplus(body[0], key):
            yield [changed_part, *body[1:]]


def keys_of(schema: dict[str, Any], part: Any) -> set[str]:
    """Every key that a request may have by the schema, at any depth."""
    if isinstance(part, list):
        return {key for each in part for key in keys_of(schema, each)}
    if not isinstance(part, dict):
        return set()
    found = set(part.get("properties", ()))
    if "$ref" in part:
        found |= keys_of(schema, schema["components"]["schemas"][part["$ref"].rpartition("/")[2]])
    return found | {key for each in part.values() for key in keys_of(schema, each)}


def test_no_route_takes_a_key_that_is_not_its_own(
    client: TestClient, context: Context, project: ProjectRow, ada: Headers, admin: Headers, spawner: Headers
) -> None:
    world = make_world(context, "ada", "adas")
    own = {kind.value: {"Authorization": f"Bearer {token}"} for kind, token in world.tokens.items()}
    asked = 0
    schema = client.get("/api/v1/openapi.json").json()
    for route in routes_of(client.app):
        name = route.path.partition("/api/v1")[2]
        good = BODIES.get((route.method, name))
        if good is None:
            continue
        headers = {"admin": admin, "spawner": spawner, "workload": own["run"]}.get(route.guard or "", ada)
        headers = own["cluster"] if "/agent/" in name else headers
        ids = {
            "slug": world.slug,
            "job_id": world.job,
            "run_id": world.run,
            "cluster_id": world.cluster,
            "workload_id": world.notebook,
        }
        path = (
            "/api/v1" + name.format(**ids, name="KEY", user="bob", limit_id="li-x") if "{" in name else f"/api/v1{name}"
        )
        meant = keys_of(schema, schema["paths"][route.path][route.method.lower()]["requestBody"])
        for key in ACCOUNTED:
            for body in with_surplus(copy.deepcopy(good), key) if key not in meant else ():
                answer = client.request(route.method, path, json=body, headers=headers)
                asked += 1
                told = f"{route} {key}: {answer.status_code} {answer.text[:200]}"
                assert answer.status_code in (400, 422), told
    assert asked > 300


IMPERSONATING = [
    "X-Forwarded-User",
    "X-Remote-User",
    "Remote-User",
    "X-User",
    "X-Moorage-User",
    "X-Moorage-Project",
    "X-Admin",
    "X-Moorage-Workload",
]


def test_no_header_or_query_makes_the_caller_another(client: TestClient, ada: Headers) -> None:
    plain = client.get("/api/v1/me", headers=ada).json()
    for header in IMPERSONATING:
        assert client.get("/api/v1/me", headers={**ada, header: "root"}).json() == plain
        assert client.get("/api/v1/me", headers={header: "root"}).status_code == 401
    for key in ("user", "owner", "admin", "user_id", "token", "access_token", "generation"):
        assert client.get("/api/v1/me", headers=ada, params={key: "root"}).json() == plain
        assert client.get("/api/v1/me", params={key: ada["Authorization"].partition(" ")[2]}).status_code == 401


# What a project may name as its base

OFFERED = ["3.11", "3.12"]
LIKE_OFFERED = [
    "3.11\n",
    "\n3.11",
    " 3.11",
    "3.11 ",
    "3.110",
    "3.1",
    "3",
    "3.11.evil",
    "3.11.2",
    "3.11/../../bin",
    "/usr/bin/python3.11",
    "python3.11",
    "3.11\0",
    "\uff13.11",
    "3\u200b.11",
    "3.1\u0661",
    "3.11@sha256:0",
    "x@3.11",
    "3.11#",
    "3.11;id",
    "$(id)",
    "",
    "3.13",
    "-3.11",
    "--3.11",
    "V3.11",
]


@pytest.mark.parametrize("version", LIKE_OFFERED)
def test_an_interpreter_is_one_that_is_offered_to_the_letter(version: str) -> None:
    with pytest.raises(ManifestError):
        parse(f"name: x\npython: {json.dumps(version)}\n", OFFERED)


@examples(300)
@given(JSON | st.text(alphabet="3.12 \n/\uff13", max_size=6))
def test_whatever_a_project_names_as_its_python_is_offered_or_refused(version: Any) -> None:
    try:
        found = parse(f"name: x\npython: {json.dumps(version)}\n", OFFERED)
    except ManifestError:
        return
    assert found.python in OFFERED
    assert version in OFFERED or version in (3.11, 3.12)


DIGEST = "0" * 39 + "a"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../x",
        "/etc",
        f"{DIGEST}\n",
        f"\n{DIGEST}",
        f"{DIGEST}/",
        f"{DIGEST}/..",
        f" {DIGEST}",
        DIGEST.upper(),
        f"{DIGEST}\0",
        "\uff10" * 40,
        "\u0660" * 40,
        "-" + DIGEST,
        DIGEST * 3,
        f"evil@{DIGEST}",
        f"{DIGEST}.evil",
        "~",
        "file:///x",
    ],
)
def test_an_environment_is_named_by_a_digest_and_by_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / DIGEST).mkdir()
    with pytest.raises(ValueError, match="can't be the name of an environment"):
        environments.path_of(tmp_path, name)
    assert environments.path_of(tmp_path, DIGEST) == tmp_path / DIGEST


@pytest.mark.parametrize(
    "package",
    [
        "evil @ https://evil.example/x.whl",
        "evil@file:///etc/passwd",
        "./x",
        "../x",
        "/x",
        "~/x",
        "git+https://x/y",
        "-e .",
        "--index-url https://x",
        "-r x.txt",
        "pandas\n--index-url=https://x",
        "pandas --hash=sha256:0",
        "pandas\\\n-e .",
        "moorage",
        "moorage-service",
        "MOORAGE_hub",
        "m\u043eorage",
        "pandas; @ x",
        "https://x/y.whl",
        "a b",
        "",
        "pandas==1\0",
        "pandas\u2028-e .",
    ],
)
def test_a_package_is_one_of_the_index_and_no_address_option_or_part_of_moorage(package: str) -> None:
    with pytest.raises(ManifestError):
        parse(f"name: x\npackages: [{json.dumps(package)}]\n", OFFERED)


@examples(300)
@given(st.text(alphabet=string.ascii_letters + "0123456789-._[]<>=!~;,'\" \n\t@/:#\\\u2028\x0c", max_size=30))
def test_whatever_a_package_is_called_it_is_one_line_without_an_address(package: str) -> None:
    try:
        found = parse(f"name: x\npackages: [{json.dumps(package)}]\n", OFFERED)
    except ManifestError:
        return
    (line,) = found.packages
    assert len(line.splitlines()) == 1
    assert "@" not in line
    assert "://" not in line
    assert not line.startswith(("-", ".", "/", "~"))
