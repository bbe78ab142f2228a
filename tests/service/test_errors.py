"""Whatever goes wrong leaves in one format: a code, a sentence, and the field."""

from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from moorage_service.app import create_app
from moorage_service.context import Context
from moorage_service.identity.callers import RequireUser
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow

Headers = dict[str, str]
GIB = 1 << 30
LIMIT = {"scope": "everyone", "resource": "cpu", "amount": 1}


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert set(body) <= {"code", "message", "field", "refusal"}
    assert body["message"].endswith(".")
    return body


def test_a_path_that_is_none_says_where_the_routes_are(client: TestClient, ada: Headers) -> None:
    body = problem(client.get("/api/v1/nothing", headers=ada), 404, "not_found")
    assert body["message"].startswith("There is nothing at /services/moorage/api/v1/nothing.")


def test_a_method_that_a_path_does_not_take_says_so(client: TestClient, ada: Headers) -> None:
    answer = client.put("/api/v1/me", headers=ada)
    assert "does not take PUT" in problem(answer, 405, "method_not_allowed")["message"]
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"windows": 5}, "windows", "windows: there is no such field."),
        ({"amount": "many"}, "amount", "amount: "),
        ({"scope": "world"}, "scope", "scope: "),
        ({"resource": None}, "resource", "resource: "),
        ({"scope": "user"}, "name", "name: say which user"),
    ],
)
def test_a_bad_field_is_named_with_a_remedy(
    client: TestClient, admin: Headers, change: dict[str, Any], field: str, words: str
) -> None:
    answer = client.post("/api/v1/limits", headers=admin, json={**LIMIT, **change})
    body = answer.json()
    assert (answer.status_code in (400, 422), body["code"], body["field"]) == (True, "bad_request", field)
    assert body["message"].startswith(words)


def test_a_missing_field_and_a_body_that_is_no_json_are_named(client: TestClient, admin: Headers) -> None:
    body = problem(client.post("/api/v1/limits", headers=admin, json={"scope": "everyone"}), 422, "bad_request")
    assert body["field"] in ("resource", "amount")
    assert "is missing" in body["message"]
    for content in (b"{", b"\xff"):
        sent = {**admin, "Content-Type": "application/json"}
        answer = client.post("/api/v1/limits", headers=sent, content=content)
        assert answer.status_code in (400, 422)
        assert answer.json()["code"] == "bad_request"


def test_unknown_fields_are_refused_inside_as_well(client: TestClient, spawner: Headers, project: ProjectRow) -> None:
    body = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": GIB, "disk": 1}}
    found = problem(client.post("/api/v1/notebooks", headers=spawner, json=body), 422, "bad_request")
    assert found["field"] == "size.disk"


def test_a_refusal_by_a_limit_carries_its_parts(client: TestClient, spawner: Headers, project: ProjectRow) -> None:
    body = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 100, "memory": GIB}}
    found = problem(client.post("/api/v1/notebooks", headers=spawner, json=body), 409, "limit_refused")
    assert found["refusal"]["resource"] == "cpu"
    assert found["refusal"]["message"] == found["message"]


def test_a_bug_is_a_sentence_and_no_traceback(context: Context, ada: Headers) -> None:
    """The server's log has it; the answer does not."""
    app = create_app(context, background=False)
    router = APIRouter()

    @router.get("/broken")
    def broken(caller: RequireUser) -> None:
        raise RuntimeError("the secret inside")

    @router.get("/locked")
    def locked(caller: RequireUser) -> None:
        raise OperationalError("SELECT secret", {}, Exception("database is locked"))

    app.include_router(router, prefix=PREFIX)
    with TestClient(app, base_url=context.settings.public_url, raise_server_exceptions=False) as client:
        body = problem(client.get(f"{PREFIX}/broken", headers=ada), 500, "internal_error")
        assert "secret" not in str(body)
        body = problem(client.get(f"{PREFIX}/locked", headers=ada), 503, "store_unavailable")
        assert "secret" not in str(body)
