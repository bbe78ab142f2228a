"""Who is at the other end of a connection, told by real sockets."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from moorage_spawners.launch import peers
from tests.waiting import eventually

DIAL = "import socket, sys; held = socket.create_connection((sys.argv[1], int(sys.argv[2]))); sys.stdin.read()"
TRUSTED = frozenset({"10.0.0.2"})
SAID = "203.0.113.9, 198.51.100.4, 10.0.0.2"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another account can be played by root only")


@contextmanager
def called(host: str, uid: int | None = None) -> Iterator[tuple[peers.Endpoint, peers.Endpoint, Callable[[], None]]]:
    """Somebody's connection to a server here: peer, own, and what hangs up on their side."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        caller = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", DIAL, host, str(port)],
            stdin=subprocess.PIPE, user=uid, group=uid, extra_groups=None if uid is None else [], cwd="/",
        )  # fmt: skip
        assert caller.stdin is not None
        taken, _ = server.accept()

        def hang_up() -> None:
            assert caller.stdin is not None
            caller.stdin.close()
            caller.wait()

        try:
            with taken:
                yield taken.getpeername()[:2], taken.getsockname()[:2], hang_up
        finally:
            hang_up()


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    """A loopback address of either family."""
    if request.param == "::1":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
    return str(request.param)


def test_our_own_proxys_word_is_believed(host: str) -> None:
    with called(host) as (peer, own, _):
        assert peers.uid_of(peer, own) == os.geteuid()
        assert peers.address_of(SAID, peer, own, TRUSTED) == "198.51.100.4"


@as_root
def test_another_account_of_this_machine_is_not(host: str) -> None:
    with called(host, uid=65534) as (peer, own, _):
        assert peers.uid_of(peer, own) == 65534
        assert peers.address_of(SAID, peer, own, TRUSTED) is None


@as_root
def test_nor_is_it_once_it_has_hung_up(host: str) -> None:
    """What is closed belongs to root in the kernel's table."""
    with called(host, uid=65534) as (peer, own, hang_up):
        hang_up()
        eventually(lambda: peers.uid_of(peer, own) is None)
        assert peers.address_of(SAID, peer, own, TRUSTED) is None


def test_another_machines_word_is_believed() -> None:
    """A proxy that runs elsewhere: who may call from there is the network's to say."""
    assert peers.address_of(SAID, ("192.0.2.77", 5000), ("192.0.2.1", 8001), TRUSTED) == "198.51.100.4"


def test_who_says_nothing_came_directly() -> None:
    assert peers.address_of(" , ", ("192.0.2.77", 5000), ("192.0.2.1", 8001), TRUSTED) is None


def test_an_ipv4_caller_of_an_ipv6_socket_is_found() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no socket takes both families here")
    server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with server, socket.create_connection(("127.0.0.1", server.getsockname()[1])):
        taken, _ = server.accept()
        with taken:
            assert taken.getpeername()[0] == "::ffff:127.0.0.1"
            assert peers.uid_of(taken.getpeername()[:2], taken.getsockname()[:2]) == os.geteuid()
