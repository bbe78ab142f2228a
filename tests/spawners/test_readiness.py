"""Waiting for a server of our own."""

import asyncio
import http.server
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from moorage_spawners.launch import Observation
from moorage_spawners.launch.peers import listeners
from moorage_spawners.readiness import NotReady, check_owner, free_port, wait_until_ready

RUNS = Observation("nb", 1, "server", "running")


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers 501 to everything."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_of_500_and_above_is_none_yet(port: int) -> None:
    with pytest.raises(NotReady, match="did not answer within 0 s"):
        asyncio.run(wait_until_ready(f"http://127.0.0.1:{port}/", lambda: RUNS, within=0))


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (None, "was stopped while it started"),
        (Observation("nb", 1, "server", "exited", exit_code=3), "with exit status 3."),
        (Observation("nb", 1, "server", "exited", signal=9), "by signal 9"),
        (Observation("nb", 1, "server", "exited", signal=9, out_of_memory=True), "choose a size with more memory"),
        (Observation("nb", 1, "server", "exited", message="It could not be started: x."), "could not be started: x."),
    ],
)
def test_a_server_that_ends_is_told_at_once(seen: Observation | None, sentence: str) -> None:
    with pytest.raises(NotReady, match=sentence):
        asyncio.run(wait_until_ready(f"http://127.0.0.1:{free_port()}/", lambda: seen, within=60))


def test_a_port_that_another_user_took_is_refused(port: int) -> None:
    assert listeners(port) == {os.geteuid()}
    check_owner(port, None)
    check_owner(port, os.geteuid())
    with pytest.raises(NotReady, match=f"Port {port} was taken by another user"):
        check_owner(port, os.geteuid() + 1)


def test_a_port_on_the_other_family_counts_too() -> None:
    if not socket.has_ipv6:
        return
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        assert listeners(listener.getsockname()[1]) == {os.geteuid()}
