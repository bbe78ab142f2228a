"""The agent: what the waiting work needs, how it reports, and that nothing stops it."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from moorage.agent.config import AgentConfig, ConfigError
from moorage.agent.demand import Gang, Waiting, demand
from moorage.agent.engine import Sight
from moorage.agent.loop import Agent
from moorage.agent.service import Service
from moorage.wire import WorkerReport

WORKER = {"CPU": 2.0, "memory": 4e9}
ENVIRONMENT = {
    "MOORAGE_API_URL": "http://127.0.0.1:1/services/moorage/", "MOORAGE_TOKEN": "moor_x", "MOORAGE_GENERATION": "2",
    "MOORAGE_AGENT_ENGINE": "ray", "MOORAGE_AGENT_ADDRESS": "127.0.0.1:6379", "MOORAGE_AGENT_MIN_WORKERS": "1",
    "MOORAGE_AGENT_WORKER": '{"CPU": 2}', "MOORAGE_AGENT_PORTS": "10001,8265",
}  # fmt: skip


def wanted(waiting: list[Waiting] | None = None, gangs: list[Gang] | None = None, **there: Any) -> int:
    return demand(WORKER, there.get("free", []), there.get("busy", []), waiting or [], gangs or []).wanted


def test_waiting_tasks_fill_workers() -> None:
    assert wanted([Waiting(bundle={"CPU": 1}, count=5)]) == 3
    assert wanted([Waiting(bundle={"CPU": 0.5}, count=5)]) == 2
    assert wanted([Waiting(bundle={"CPU": 1, "memory": 3e9}, count=2)]) == 2
    assert wanted([]) == 0


def test_room_on_workers_that_are_there_is_used_first() -> None:
    free = [{"CPU": 1.0, "memory": 4e9}, {"CPU": 2.0, "memory": 4e9}]
    assert wanted([Waiting(bundle={"CPU": 1}, count=3)], free=free, busy=[True, False]) == 2
    assert wanted([Waiting(bundle={"CPU": 1}, count=4)], free=free, busy=[True, False]) == 3
    assert wanted([], free=free, busy=[True, False]) == 1


def test_what_fits_no_worker_is_named_and_asks_for_none() -> None:
    found = demand(WORKER, [], [], [Waiting(bundle={"CPU": 4}), Waiting(bundle={"GPU": 1})], [])
    assert found.wanted == 0
    assert found.impossible == [{"CPU": 4}, {"GPU": 1}] or found.impossible == [{"GPU": 1}, {"CPU": 4}]


def test_placement_groups_ask_as_their_strategy_says() -> None:
    bundles = [{"CPU": 0.5}] * 3
    assert wanted(gangs=[Gang(bundles=bundles)]) == 1
    assert wanted(gangs=[Gang(bundles=bundles, strategy="STRICT_SPREAD")]) == 3
    assert wanted(gangs=[Gang(bundles=[{"CPU": 1}, {"CPU": 1}], strategy="STRICT_PACK")]) == 1
    assert wanted(gangs=[Gang(bundles=[{"CPU": 2}, {"CPU": 1}], strategy="STRICT_PACK")]) == 0


def test_a_million_tasks_are_counted_quickly() -> None:
    assert wanted([Waiting(bundle={"CPU": 1}, count=1_000_000)]) == 1000


def test_the_agent_is_told_by_its_environment() -> None:
    config = AgentConfig.from_environment(ENVIRONMENT)
    assert (config.api_url, config.generation, config.ports) == (
        "http://127.0.0.1:1/services/moorage",
        2,
        (10001, 8265),
    )


@pytest.mark.parametrize(
    ("name", "value"), [("MOORAGE_TOKEN", None), ("MOORAGE_AGENT_ENGINE", "spark"), ("MOORAGE_GENERATION", "two")]
)
def test_what_is_missing_or_wrong_is_named(name: str, value: str | None) -> None:
    given = {key: text for key, text in {**ENVIRONMENT, name: value}.items() if text is not None}
    with pytest.raises(ConfigError, match=name if name != "MOORAGE_GENERATION" else "two"):
        AgentConfig.from_environment(given)


class Board:
    """A service, as agents see one: keeps reports, gives orders, and can be away."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.orders: dict[str, Any] = {"retire": [], "interval_s": 0.1}
        self.failing = False


@contextmanager
def serve(board: Board) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            board.tokens.add(self.headers["Authorization"])
            if not board.failing:
                board.reports.append({"path": self.path, **json.loads(body)})
            answer = json.dumps(board.orders).encode()
            self.send_response(503 if board.failing else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/services/moorage"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Script:
    """An engine that shows what it is told to."""

    def __init__(self) -> None:
        self.sight: Sight | Exception = Sight(answers=False)
        self.retired: list[str] = []

    async def look(self) -> Sight:
        if isinstance(self.sight, Exception):
            raise self.sight
        return self.sight

    async def retire(self, names: list[str]) -> None:
        self.retired += names


UP = Sight(answers=True, workers=[WorkerReport(name="worker-1", busy=False)], versions={"ray": "2.60.0"})


@contextlib.asynccontextmanager
async def running(board: Board, engine: Script, **changes: str) -> Any:
    with serve(board) as url:
        config = AgentConfig.from_environment(
            {**ENVIRONMENT, "MOORAGE_AGENT_PORTS": "", **changes, "MOORAGE_API_URL": url}
        )
        service = Service(config.api_url, config.token)
        task = asyncio.create_task(Agent(config, engine, service).run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            service.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the condition is another thread's
            await asyncio.sleep(0.01)


async def test_it_reports_with_its_token_and_generation_and_tells_readiness() -> None:
    board, engine = Board(), Script()
    async with running(board, engine):
        await until(lambda: board.reports)
        assert board.reports[0]["path"] == "/services/moorage/api/v1/agent/reports"
        assert (board.reports[0]["ready"], board.reports[0]["generation"]) == (False, 2)
        engine.sight = UP
        await until(lambda: board.reports[-1]["ready"])
    assert board.tokens == {"Bearer moor_x"}


async def test_it_is_ready_only_with_enough_workers_and_open_ports() -> None:
    board, engine = Board(), Script()
    engine.sight = UP
    async with running(board, engine, MOORAGE_AGENT_MIN_WORKERS="2"):
        await until(lambda: len(board.reports) > 2)
        assert not any(report["ready"] for report in board.reports)
    board = Board()
    async with running(board, engine, MOORAGE_AGENT_PORTS="1"):
        await until(lambda: len(board.reports) > 2)
        assert not any(report["ready"] for report in board.reports)


async def test_it_carries_out_orders() -> None:
    board, engine = Board(), Script()
    board.orders["retire"] = ["worker-1"]
    engine.sight = UP
    async with running(board, engine):
        await until(lambda: engine.retired)
    assert engine.retired[0] == "worker-1"


async def test_it_goes_on_while_the_service_is_away_and_while_the_engine_fails() -> None:
    board, engine = Board(), Script()
    board.failing = True
    engine.sight = RuntimeError("the library's own trouble")
    async with running(board, engine):
        await until(lambda: board.tokens)
        board.failing = False
        await until(lambda: board.reports)
        assert board.reports[-1]["ready"] is False
        engine.sight = UP
        await until(lambda: board.reports[-1]["ready"])


async def test_idleness_counts_from_the_first_look_that_saw_it_and_only_while_it_can_be_told() -> None:
    board, engine = Board(), Script()
    engine.sight = replace(UP, idle=True)
    async with running(board, engine):
        await until(lambda: board.reports and board.reports[-1]["idle_s"] > 0.5)
        engine.sight = replace(UP, idle=None)
        await until(lambda: board.reports[-1]["idle_s"] is None)
        engine.sight = replace(UP, idle=True)
        await until(lambda: board.reports[-1]["idle_s"] is not None)
        unknown = max(index for index, report in enumerate(board.reports) if report["idle_s"] is None)
        assert board.reports[unknown + 1]["idle_s"] < 0.5
        engine.sight = replace(UP, idle=False)
        await until(lambda: board.reports[-1]["idle_s"] == 0.0)
