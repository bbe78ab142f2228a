"""What is logged says which request, user and workload it was about."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage.wire import WorkloadKind
from moorage_service.context import Context
from moorage_service.reconciler.loop import Reconciler
from moorage_service.store.tables import ProjectRow
from moorage_service.watch import logs
from tests.service.world import make_world

Headers = dict[str, str]


class Log:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    def lines(self, logger: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in found if line["logger"] == logger]


@contextmanager
def logging_as(form: logs.LogFormat, stream: io.StringIO) -> Iterator[None]:
    """All that is logged goes to `stream`; pytest's own handlers are put back."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    logs.configure(form, stream)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    with logging_as("json", made.stream):
        yield made


def test_a_change_is_a_line_with_request_user_and_route(
    client: TestClient, context: Context, ada: Headers, project: ProjectRow, log: Log
) -> None:
    world = make_world(context, "ada", "adas")
    answer = client.delete(f"/api/v1/clusters/{world.cluster}", headers={**ada, "X-Request-ID": "of-a-proxy.1"})
    assert answer.headers["X-Request-ID"] == "of-a-proxy.1"
    (line,) = log.lines("moorage_service.requests")
    assert (line["request"], line["id"]) == ("of-a-proxy.1", world.cluster)
    assert line["user"].startswith("us-"), "an id, for names are personal"
    assert "DELETE" in line["message"]
    assert "{cluster_id}" in line["message"]
    assert len(log.lines("moorage_service.requests")) == 1, "to look at something is no news"


def test_a_request_id_that_is_none_is_replaced(client: TestClient) -> None:
    for given in ("two\twords", "x" * 65, ""):
        assert len(client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"]) == 16


def test_what_a_step_says_names_its_workload(context: Context, ada: Headers, project: ProjectRow, log: Log) -> None:
    world = make_world(context, "ada", "adas")

    def step(_context: Context, _workload_id: str) -> None:
        logging.getLogger("moorage_service.clusters").warning("odd")
        raise ValueError("bad")

    Reconciler(context, WorkloadKind.CLUSTER, step).run_once()
    assert [line["workload"] for line in log.lines("moorage_service.clusters")] == [world.cluster]
    (failure,) = log.lines("moorage_service.reconciler.loop")
    assert failure["workload"] == world.cluster
    assert "ValueError: bad" in failure["exception"]


def test_lines_for_people_are_text_with_the_same_facts() -> None:
    stream = io.StringIO()
    with logging_as("text", stream), logs.within(workload="cl-abc"):
        logging.getLogger("moorage_service.clusters").warning("a head is gone")
    line = stream.getvalue()
    assert "a head is gone" in line
    assert "workload=cl-abc" in line
    assert "\x1b" not in line
