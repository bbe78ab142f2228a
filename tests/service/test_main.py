"""The service as a process: it serves, it stops in good order, and says in a sentence why it can't start."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from moorage_service.settings import PREFIX
from moorage_service.store.database import Database
from tests.ports import free_port
from tests.waiting import eventually

SETTINGS = {"seed_starter": False, "inventory": {"cpu": 4, "memory": 1 << 33, "gpus": {}}, "reconcile_s": 0.1}


def command(state: Path, **settings: str) -> tuple[list[str], dict[str, str]]:
    named = {f"MOORAGE_SERVICE_{name}": value for name, value in settings.items()}
    return [sys.executable, "-m", "moorage_service.main"], {**os.environ, "MOORAGE_SERVICE_STATE": str(state), **named}


@contextmanager
def serving(state: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    argv, environment = command(state, PORT=str(port))
    with (state.parent / "service.log").open("ab") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: answers(port) or process.poll() is not None, within=120, what="the service answering")
        assert process.poll() is None, (state.parent / "service.log").read_text()
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{PREFIX}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "settings.yaml").write_text(json.dumps({"service": SETTINGS}))
    return folder


def test_it_serves_and_ends_in_good_order_at_a_signal(state: Path) -> None:
    port = free_port()
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(state, port) as process:
            answer = httpx.get(f"http://127.0.0.1:{port}{PREFIX}/api/v1/me")
            assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
            process.send_signal(number)
            assert process.wait(timeout=30) in (0, -number)
    assert "Traceback" not in (state.parent / "service.log").read_text()
    for path in (state / "database").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"PORT": "many"}, "port"),
        ({"INVENTORY": "{"}, "inventory"),
        ({"DATABASE_URL": "my-password"}, "database_url"),
        ({"DATABASE_URL": "oracle+nonsense://x:my-password@y"}, "oracle"),
        ({"STATE": ""}, "MOORAGE_SERVICE_STATE"),
    ],
)
def test_what_it_can_not_start_with_is_said_without_a_traceback(
    state: Path, settings: dict[str, str], words: str
) -> None:
    argv, environment = command(state, **settings)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "my-password" not in done.stderr


def test_a_database_of_a_newer_version_stops_the_start_with_a_sentence(state: Path) -> None:
    database = Database(f"sqlite:///{state / 'database' / 'service.sqlite'}")
    database.migrate()
    with database.engine.execution_options(moorage_write=True).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    argv, environment = command(state)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180)
    assert "newer version of Moorage" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_machine_loads_no_client_of_a_cluster() -> None:
    code = "import moorage_service.main, sys; print([name for name in sys.modules if name.startswith('kubernetes')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout.strip() == "[]"
