"""The processes that `moorage-hub up` stands over: the service and the hub. Each restarts with back-off when it dies."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moorage_hub.errors import ChildFailed
from moorage_hub.state import write_private
from moorage_spawners.launch.log_files import private, rotate
from moorage_spawners.launch.marks import census, living, mark_of
from moorage_spawners.shim import tree

MOST_RESTARTS = 5  # within STEADY_S; more often means that it will not come back by itself
MOST_AT_START = 1  # before it has ever answered
STEADY_S = 120.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
TAIL_LINES = 20


@dataclass
class Child:
    """One program, its log, and how it is asked to end."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    stop_signal: int = signal.SIGTERM
    stop_s: float = 20.0
    process: "subprocess.Popen[bytes] | None" = None
    deaths: list[float] = field(default_factory=list)
    start_at: float = 0.0
    log_from: int = 0  # where its last start begins in the log

    def start(self) -> None:
        """A session of its own: the terminal's Ctrl-C reaches us alone, and we end it in order."""
        with open(self.log, "ab", opener=private) as log:
            self.log_from = log.tell()
            self.process = subprocess.Popen(
                self.argv, env=dict(self.env), cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, umask=0o077,
            )  # fmt: skip

    def check(self, most: int = MOST_RESTARTS) -> None:
        """Starts it again, after a pause, when it died. Raises ChildFailed when that happens more often than `most`."""
        if self.process is not None and self.process.poll() is None:
            return
        now = time.monotonic()
        if self.process is not None:
            status = self.process.returncode
            self.process = None
            self.deaths = [moment for moment in self.deaths if now - moment < STEADY_S] + [now]
            if len(self.deaths) > most:
                raise ChildFailed(
                    f"The {self.name} ended {len(self.deaths)} times, last with status {status}.{self.tail()}"
                )
            self.start_at = now + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (len(self.deaths) - 1))
        if now >= self.start_at:
            self.start()

    def stop(self) -> None:
        """Asks it to end, and ends it after `stop_s`."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def keep_log_short(self, most: int, kept: int) -> None:
        """Puts the log aside once it has more than `most` bytes."""
        if rotate(self.log, most, kept=kept):
            self.log_from = 0

    def tail(self) -> str:
        """The end of what its last start left in the log, as text to append to a message."""
        if not self.log.exists():
            return ""
        lines = self.log.read_bytes()[self.log_from :][-10_000:].decode(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f" The end of its log ({self.log}):", *lines])


def end_strays(state: Path, *, within_s: float = 10.0) -> int:
    """Ends what an earlier start left and did not write down: one that was killed right after it had begun. How many there were."""
    found = tree.marked(mark_of(state), None) - {os.getpid()}
    tree.signal_all(found, signal.SIGTERM)
    deadline = time.monotonic() + within_s
    while left := tree.marked(mark_of(state), None) - {os.getpid()}:
        if time.monotonic() > deadline:
            tree.signal_all(left, signal.SIGKILL)
        time.sleep(0.05)
    return len(found)


class Census:
    """Which processes belong to this installation, by pid and start time, so that another command can end them."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def write(self, pids: Mapping[str, int]) -> None:
        boot = tree.boot()
        write_private(
            census(self._state), json.dumps({name: [pid, tree.started(pid), boot] for name, pid in pids.items()})
        )

    def living(self) -> dict[str, int]:
        """Those that still live."""
        return living(self._state)

    def end(self, names: list[str] | None = None, *, within_s: float = 30.0) -> list[str]:
        """SIGTERM, then SIGKILL. Returns the names of what was ended."""
        ended = {name: pid for name, pid in self.living().items() if names is None or name in names}
        tree.signal_all(set(ended.values()), signal.SIGTERM)
        deadline = time.monotonic() + within_s
        while ended.items() & self.living().items():
            if time.monotonic() > deadline:
                tree.signal_all(set(ended.values()), signal.SIGKILL)
            time.sleep(0.05)
        return sorted(ended)
