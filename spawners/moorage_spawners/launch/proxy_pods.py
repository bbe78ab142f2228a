"""Where a request comes from in a cluster: the proxy's pod says for whom it speaks, and everybody else is who they are.

Every caller has an address of its own there, users' pods too, which call hub and service directly and could write any header. The
proxy's own address comes from the cluster's DNS, by a Service without an address: its name leads to the proxy's pods, and to nobody else.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection

from moorage_spawners.launch import peers

log = logging.getLogger(__name__)

# (X-Forwarded-For, the caller's end, our end, proxies before ours) -> an address; None: a program of this machine.
AddressOf = Callable[[str, peers.Endpoint | None, peers.Endpoint | None, Collection[str]], str | None]
Resolve = Callable[[str], Collection[str]]


class ProxyPods:
    """Asks for the name at most once in `asked_every_s`, in a thread of its own; threads may call at once.

    Whoever calls waits `patience_s` at most, for the hub serves nobody else meanwhile. A name that nothing answers to for the moment
    means who it meant before; at first, nobody: then all who come through the proxy count as one address, which lets nobody choose one.
    """

    def __init__(
        self,
        name: str,
        resolve: Resolve | None = None,
        *,
        kept_s: float = 5.0,
        asked_every_s: float = 1.0,
        patience_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._resolve = resolve or addresses_of
        self._kept_s, self._asked_every_s, self._patience_s = kept_s, asked_every_s, patience_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._asked_at: float | None = None
        self._answered = threading.Event()
        self._answered.set()

    def address_of(
        self, forwarded: str, peer: peers.Endpoint | None, _own: peers.Endpoint | None, trusted: Collection[str]
    ) -> str | None:
        """As `peers.address_of`; but who came directly is told by their own address. None: nobody knows who called."""
        if peer is None:
            return None
        caller = peers.plain(peer[0])
        told = peers.told_by_proxy(forwarded, trusted)
        return told if told is not None and self._is_proxy(caller) else caller

    def _is_proxy(self, address: str) -> bool:
        self._ask_when_older_than(self._kept_s)
        if address not in self._known:
            self._ask_when_older_than(self._asked_every_s)  # it may be a new pod of the proxy's
        return address in self._known

    def _ask_when_older_than(self, age_s: float) -> None:
        with self._lock:
            now = self._clock()
            if not self._answered.is_set() or (self._asked_at is not None and now - self._asked_at < age_s):
                return
            self._asked_at = now
            self._answered.clear()
            threading.Thread(target=self._ask, name="proxy-pods", daemon=True).start()
        self._answered.wait(self._patience_s)

    def _ask(self) -> None:
        try:
            self._known = frozenset(peers.plain(each) for each in self._resolve(self._name))
        except OSError as error:
            log.warning("the name %r could not be looked up: %s", self._name, error)
        finally:
            self._answered.set()


def addresses_of(name: str) -> set[str]:
    """By the system's resolver; none where the name is nobody's. Raises OSError while nothing answers."""
    if not name:
        return set()
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return set()
        raise


def chosen(platform: str, proxy_pods: str) -> AddressOf:
    """How callers are told apart there. `proxy_pods`: the name that leads to the proxy's pods."""
    return ProxyPods(proxy_pods).address_of if platform == "kubernetes" else peers.address_of
