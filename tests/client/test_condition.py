"""What a notebook server in a pod notices of itself, and tells the service."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from moorage.environment import Surroundings
from moorage.notebook.condition import Condition, is_full, killed
from tests.small_disk import small_disk


@dataclass
class Service:
    """`told`: what it took; while `away` it takes nothing."""

    url: str
    told: list[dict[str, Any]] = field(default_factory=list)
    away: bool = False


@pytest.fixture
def service() -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert (self.path, self.headers["Authorization"]) == ("/api/v1/notebooks/condition", "Bearer own")
            if not made.away:
                made.told.append(content)
            self.send_response(503 if made.away else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made = Service(f"http://127.0.0.1:{server.server_address[1]}")
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def condition(service: Service, home: Path, events: Path) -> Condition:
    around = Surroundings(api_url=service.url, token="own")
    return Condition(around, events=[events.with_name("of another version"), events], home=str(home))


async def test_each_change_is_told_once_and_again_when_the_service_was_away(service: Service, tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 0\noom_kill 0\n")
    own = condition(service, tmp_path, events)
    await own.look()
    assert service.told == []
    events.write_text("low 0\noom 3\noom_kill 1\noom_group_kill 0\n")
    service.away = True
    await own.look()
    service.away = False
    for _ in range(2):
        await own.look()
    assert service.told == [{"out_of_memory": 1, "home_full": False}]


async def test_a_full_home_is_told_as_long_as_it_is_full(service: Service, tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", "2m") as disk:
        own = condition(service, disk.folder, tmp_path / "none")
        assert not is_full(str(disk.folder))
        disk.fill()
        for _ in range(2):
            await own.look()
        disk.empty()
        for _ in range(2):
            await own.look()
    assert [each["home_full"] for each in service.told] == [True, True, False]


def test_the_kernels_count_is_read_as_either_version_writes_it(tmp_path: Path) -> None:
    first = tmp_path / "memory.oom_control"
    first.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert killed([tmp_path / "none", first]) == 4
    assert killed([tmp_path / "none"]) == 0


def test_outside_of_a_pod_nothing_is_looked_at(service: Service) -> None:
    own = Condition(Surroundings(api_url=service.url, token="own"))
    own.start()
    assert not own.home
    assert service.told == []
