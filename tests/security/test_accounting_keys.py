"""What is accounted, to whom and where, is never the caller's to say: by no key, header or query of any route."""

import copy
from collections.abc import Iterator
from typing import Any

from fastapi.testclient import TestClient

from moorage_service.context import Context
from moorage_service.store.tables import ProjectRow
from tests.service.test_bad_input import BODIES
from tests.service.test_routes import routes_of
from tests.service.world import make_world

Headers = dict[str, str]
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
    "namespace",
    "annotations",
    "moorage.dev/owner",
    "kueue.x-k8s.io/queue-name",
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
