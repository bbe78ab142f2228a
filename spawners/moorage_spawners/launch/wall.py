"""As root: TCP ports of users' processes answer only to the same user and to root, and never to another machine.

Ray, kernels and whatever a user starts listen on ports that others on this machine could reach; Ray even on all interfaces, whatever it
is told. So the kernel compares uids (nftables): a loopback connection is marked with the uid that asks, and the answer of a listener whose
uid is a user's leaves only when the mark is that very uid or root's. A port that is *held* for a uid is answered to root by that uid alone,
so that nobody takes the port of a notebook or dashboard that just ended and is sent what was meant for it.

The one who is refused sees a time-out. UDP is not covered: nothing that we start listens on it.
"""

import ctypes
import hashlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from moorage_spawners.launch.errors import WallError

ROOTS = 1  # the mark of what root asks; users' marks are their uids, from 1000 on
_OF_ADMIN_TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMENT = re.compile(r'^\s*comment "([^"]+)"', re.MULTILINE)
_SAYABLE = re.compile(r"[\w/. -]{1,100}", re.ASCII)  # a comment has no escapes, and not much room
_ANSWERED_S = 5.0  # loopback answers at once, if it does
_REFUSED_S = 0.3  # so long, then, is the silence of a wall
Made = TypeVar("Made")


class PortWall:
    """One table of rules per installation, named after its state folder. Needs root. Every method may be repeated."""

    def __init__(self, state: Path) -> None:
        self._state = state.resolve()
        self.table = f"moorage_{hashlib.sha256(os.fsencode(self._state)).hexdigest()[:12]}"

    def up(self, guarded: range, others: Collection[int], held: Mapping[int, int]) -> None:
        """Raises the wall around `guarded` and `others` (uids from 1000 on), with `held` (port -> uid), and tries whether it stands.

        Rules that stood before are replaced at once, without a gap; those of installations whose folder is gone are taken away, for
        they would keep ports for users of nobody. Raises WallError; no rules of ours are left then.
        """
        try:
            self._clear_ruins()
            self._nft(rules(self.table, guarded, others, held, self._state))
            self._try(guarded[-2], guarded[-1])
        except WallError:
            self.down()
            raise

    def down(self) -> None:
        """Takes the wall away. Not there: nothing."""
        if self.stands():
            self._nft(f"delete table inet {self.table}")

    def stands(self) -> bool:
        program = _program()
        if program is None or os.geteuid() != 0:
            return False
        return _run([program, "list", "chain", "inet", self.table, "answer"]).returncode == 0

    def hold(self, ports: Collection[int], uid: int | None) -> None:
        """Root's connections to `ports` are answered by `uid` alone from now on. No wall, or no uid of its own: nothing."""
        if uid is None or not ports or not self.stands():
            return
        for port in ports:  # by one: those that are held for another uid must be removed first, and only those
            add = f"add element inet {self.table} held {{ {port} : {uid} }}\n"
            if not self._try_nft(add):
                self._nft(f"delete element inet {self.table} held {{ {port} }}\n{add}")

    def _clear_ruins(self) -> None:
        program = _program()
        listed = "" if program is None else _run([program, "list", "tables", "inet"]).stdout
        for table in re.findall(r"\binet (moorage_[0-9a-f]{12})\b", listed):
            assert program is not None
            said = _COMMENT.search(_run([program, "-t", "list", "table", "inet", table]).stdout)
            if said is not None and not Path(said[1]).exists():
                self._nft(f"delete table inet {table}")

    def _try(self, one: int, other: int) -> None:
        """The rules stand in the kernel; do they bind? Some machines do not track loopback connections."""
        with _as_uid(one, _listen) as listener:
            port: int = listener.getsockname()[1]
            if not (_reaches(port, one, _ANSWERED_S) and _reaches(port, 0, _ANSWERED_S)):
                raise WallError(
                    "The kernel's rules for ports (nftables) keep users from their own processes here, so they were taken back. "
                    "Does the machine track loopback connections (conntrack)?"
                )
            if _reaches(port, other, _REFUSED_S):
                raise WallError(
                    "The kernel's rules for ports (nftables) are there, but do not keep users apart. "
                    "Does the machine track loopback connections (conntrack)?"
                )

    def _nft(self, text: str) -> None:
        program = _program()
        if program is None:
            raise WallError("The program nft is not there. Install nftables (Debian: apt-get install nftables).")
        done = _run([program, "-f", "-"], text)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["it says nothing"]
            raise WallError(f"nft refuses the rules for ports: {said[0]}")

    def _try_nft(self, text: str) -> bool:
        try:
            self._nft(text)
        except WallError:
            return False
        return True


def rules(table: str, guarded: range, others: Collection[int], held: Mapping[int, int], state: Path) -> str:
    """The whole table, as `nft -f` reads it. Whatever was there under its name is replaced in the same transaction."""
    whose = f'comment "{state}"' if _SAYABLE.fullmatch(str(state)) else ""
    uids = sorted({*guarded, *others})
    spans = [f"{guarded[0]}-{guarded[-1]}", *(str(uid) for uid in sorted(others) if uid not in guarded)]
    return f"""
table inet {table} {{}}
delete table inet {table}
table inet {table} {{
  {whose}
  set guarded {{ typeof meta skuid; flags interval; elements = {{ {", ".join(spans)} }} }}
  set same {{ typeof meta skuid . ct mark; elements = {{ {", ".join(f"{uid} . {uid}" for uid in uids)} }} }}
  map marks {{ typeof meta skuid : ct mark; elements = {{ {", ".join(f"{uid} : {uid}" for uid in uids)} }} }}
  map held {{ typeof tcp dport : ct mark; {_elements(held)} }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oif lo tcp flags & (fin|syn|rst|ack) == syn jump ask
    tcp flags & (fin|syn|rst|ack) == (syn|ack) meta skuid @guarded jump answer
  }}
  chain ask {{
    meta skuid 0 ct mark set {ROOTS}
    meta skuid 0 ct mark set tcp dport map @held
    ct mark set meta skuid map @marks
  }}
  chain answer {{
    oif != lo drop
    ct mark {ROOTS} accept
    meta skuid . ct mark @same accept
    drop
  }}
}}
"""


def _elements(held: Mapping[int, int]) -> str:
    return f"elements = {{ {', '.join(f'{port} : {uid}' for port, uid in held.items())} }}" if held else ""


def _program() -> str | None:
    return shutil.which("nft") or shutil.which("nft", path=_OF_ADMIN_TOOLS)


def _run(argv: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False, cwd="/")


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _reaches(port: int, uid: int, within_s: float) -> bool:
    def ask() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), within_s).close()
        except OSError:
            return False
        return True

    return _as_uid(uid, ask)


def _as_uid(uid: int, act: Callable[[], Made]) -> Made:
    """Sockets that `act` makes are the uid's: in a thread that takes its identity for files, as the kernel calls it, and ends."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(ctypes.CDLL(None).setfsuid, uid).result()
        return thread.submit(act).result()
