"""Port blocks: each cluster of one machine has a run of ports of its own, kept in the store while it lives."""

import socket
from collections.abc import Collection, Iterable

SIZE = 20


def block_ports(first: int, block: int, names: Iterable[str]) -> dict[str, int]:
    """The ports of one block, by name."""
    ports = {name: first + block * SIZE + index for index, name in enumerate(names)}
    assert len(ports) <= SIZE
    return ports


def first_free(first: int, blocks: int, taken: Collection[int | None]) -> int | None:
    """The first block that no cluster holds and on which nobody listens. Opens sockets: not in a transaction."""
    return next((block for block in range(blocks) if block not in taken and _quiet(first, block)), None)


def _quiet(first: int, block: int) -> bool:
    return all(is_free(first + block * SIZE + index) for index in range(SIZE))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the engines do: an ended connection that lingers in TIME_WAIT is not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - only tried, never listened on: Ray will listen on all interfaces
        except OSError:
            return False
        return True
