"""Ports that nobody listens on."""

import random
import socket

# Below those that the system gives to outgoing connections, which would take one between our look and a server's start.
FIRST, LAST = 29500, 32700
_given: set[int] = set()


def free_port() -> int:
    """On the loopback address; free at this moment, and not given before by this process."""
    for port in random.sample(range(FIRST, LAST), LAST - FIRST):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise AssertionError(f"no port between {FIRST} and {LAST} is free")
