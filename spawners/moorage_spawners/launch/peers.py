"""Who holds a socket of this machine, and where a request comes from: an account here, or an address beyond our proxy.

`/proc/net/tcp` is a table of the kernel's (proc(5)): local address, remote address, state and uid of each socket, in hexadecimal digits.
"""

import ipaddress
import os
import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from moorage.origins import is_loopback

LISTENING, ESTABLISHED = "0A", "01"
MOST_CHARACTERS = 60  # of an address

Endpoint = tuple[str, int]  # host, port


class _Row(NamedTuple):
    local: str
    remote: str
    state: str
    uid: int


def listeners(port: int) -> set[int]:
    """The uids that listen on a TCP port of this machine."""
    return {row.uid for row in _rows() if row.state == LISTENING and _port(row.local) == port}


def address_of(forwarded: str, peer: Endpoint | None, own: Endpoint | None, trusted: Collection[str]) -> str | None:
    """Where a request through our proxy comes from: what the last proxy that we trust saw. None: it came directly.

    `forwarded` is its X-Forwarded-For, to which the proxy appends whom it saw: what stands before that anybody could have written,
    and all of it any program of this machine that is not ours. `peer` and `own` are the ends of the connection.
    """
    if peer is not None and own is not None and forwarded.strip(" ,") and _a_users(peer, own):
        return None
    return told_by_proxy(forwarded, trusted)


def told_by_proxy(forwarded: str, trusted: Collection[str]) -> str | None:
    """What the last proxy that we trust saw, by the X-Forwarded-For that ours sent. `trusted`: addresses and networks."""
    seen = [plain(each.strip()) for each in forwarded.split(",") if each.strip()]
    while len(seen) > 1 and _is_within(seen[-1], networks(tuple(trusted))):
        seen.pop()
    return seen[-1][:MOST_CHARACTERS] if seen else None


@lru_cache(maxsize=16)
def networks(written: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Of addresses and networks such as 10.0.0.0/8. Raises ValueError with what is neither."""
    return tuple(ipaddress.ip_network(each, strict=False) for each in written)


def _is_within(host: str, among: Collection[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in among)


def _a_users(peer: Endpoint, own: Endpoint) -> bool:
    """Whether another account of this machine called. One that has hung up already is nobody's, and could have been anybody."""
    uid = uid_of(peer, own)
    if uid is None:
        return is_loopback(plain(peer[0]))
    return uid not in (0, os.geteuid())


def uid_of(peer: Endpoint, own: Endpoint) -> int | None:
    """Who on this machine holds the other end of a connection. None: nobody, it is another machine's or was closed.

    Only while it is established: what is closed belongs to root in the table, whoever it was.
    """
    ends = (plain(peer[0]), peer[1]), (plain(own[0]), own[1])
    between = [
        row for row in _rows() if (row.state, _port(row.local), _port(row.remote)) == (ESTABLISHED, peer[1], own[1])
    ]
    for row in between:
        if (_endpoint(row.local), _endpoint(row.remote)) == ends:
            return row.uid
    return None


def _rows() -> Iterator[_Row]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue  # a kernel without this family
        for line in lines:
            _, local, remote, state, _, _, _, uid = line.split()[:8]
            yield _Row(local, remote, state, int(uid))


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _endpoint(address: str) -> Endpoint:
    """Of the host four bytes each are a number of this machine's byte order."""
    words = bytes.fromhex(address.rpartition(":")[0])
    packed = b"".join(int.from_bytes(words[at : at + 4]).to_bytes(4, sys.byteorder) for at in range(0, len(words), 4))
    return plain(str(ipaddress.ip_address(packed))), _port(address)


def plain(host: str) -> str:
    """An IPv4 address on an IPv6 socket is an IPv4 address."""
    try:
        known = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = known.ipv4_mapped if isinstance(known, ipaddress.IPv6Address) else None
    return str(mapped or known)
