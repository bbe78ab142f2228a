"""How much a request may bring."""

import base64
import inspect
import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from moorage_service.app import API, ROUTERS
from moorage_service.bodies import _STREAMS
from moorage_service.projects import bodies
from moorage_service.store.tables import ProjectRow
from tests.service.conftest import Headers
from tests.service.jobs_bench import notebook, promotion

LARGEST = 4 << 20


def pieces(count: int) -> Iterator[bytes]:
    yield b'{"cron": "'
    for _ in range(count):
        yield b"x" * 65536
    yield b'"}'


def test_a_body_that_is_too_large_is_refused_in_words_before_it_is_read(client: TestClient, ada: Headers) -> None:
    answer = client.post("/api/v1/schedules/preview", content=b"x" * (LARGEST + 1), headers=ada)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (413, "too_large", "body")
    assert "4096 KiB" in answer.json()["message"]


@pytest.mark.parametrize(("count", "status"), [(10, 400), (65, 413)])
def test_a_body_of_unknown_length_is_counted_as_it_comes(
    client: TestClient, ada: Headers, count: int, status: int
) -> None:
    headers = {**ada, "Content-Type": "application/json"}
    answer = client.post("/api/v1/schedules/preview", content=pieces(count), headers=headers)
    assert answer.status_code == status, answer.text


def test_a_promotion_and_a_form_with_files_may_be_larger(client: TestClient, ada: Headers, project: ProjectRow) -> None:
    request = promotion(notebook("1"))
    request["files"].append({"path": "data.bin", "content": base64.b64encode(bytes(9 << 20)).decode()})
    assert client.post("/api/v1/jobs", json=request, headers=ada).status_code == 201
    form = client.post("/promote", files={"files": ("work.ipynb", bytes(5 << 20))}, headers=ada)
    assert form.status_code != 413
    assert client.post("/promote", files={"files": ("work.ipynb", bytes(33 << 20))}, headers=ada).status_code == 413


def test_exactly_what_reads_its_body_in_pieces_streams() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    streaming = {route.path for route in routes if _STREAMS.fullmatch(API + re.sub("[{}]", "", route.path))}
    in_pieces = {
        route.path
        for route in routes
        if "stream()" in inspect.getsource(route.endpoint)
        or any(getattr(each.call, "__module__", "") == bodies.__name__ for each in route.dependant.dependencies)
    }
    assert streaming == in_pieces
    assert len(in_pieces) == 3


def test_a_notebook_with_absurdly_much_code_is_refused_in_words(
    client: TestClient, ada: Headers, project: ProjectRow
) -> None:
    answer = client.post("/api/v1/jobs/inspect", json=promotion(notebook("a = 1\n" * 200_000)), headers=ada)
    assert (answer.status_code, answer.json()["field"]) == (400, "notebook")
    assert "characters of code" in answer.json()["message"]
