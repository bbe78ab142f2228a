"""The node's own processes: each in a session of its own, marked, written down, its output in `logs/<name>.log`."""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.kube.commands import environment
from tests.kube.errors import NodeError
from tests.kube.journal import Journal
from tests.kube.place import MARK, Place
from tests.waiting import eventually

END_WITHIN = 10.0


class Daemon:
    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def until(self, condition: Callable[[], object], what: str, *, within: float = 90.0) -> None:
        """Waits for it to be of use. Raises NodeError with the last of its log when it ended before, or is late."""

        def ask() -> object:
            if self._process.poll() is not None:
                raise NodeError(f"{self.name} ended with status {self._process.returncode}:\n{self.tail()}")
            return condition()

        try:
            eventually(ask, within=within, what=f"{self.name}: {what}")
        except AssertionError as late:
            raise NodeError(f"{late}. Its log ends with:\n{self.tail()}") from late

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def end(self) -> None:
        """Asks it to end, and makes it when it does not. Nothing if it is gone."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def reap(self) -> None:
        """After it was killed: so that it is no zombie of ours."""
        self._process.wait(END_WITHIN)


class Daemons:
    """Those that this process started. What another one left is found by the journal and the mark."""

    def __init__(self, place: Place, journal: Journal) -> None:
        self._place = place
        self._journal = journal
        self._started: dict[str, Daemon] = {}

    def __getitem__(self, name: str) -> Daemon:
        return self._started[name]

    def start(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Daemon:
        """It outlives this process: a node may be kept up by hand."""
        self._place.logs.mkdir(parents=True, exist_ok=True)
        log = self._place.logs / f"{name}.log"
        whole = {**environment(env), MARK: str(self._place.work)}
        with log.open("ab") as output:
            process = subprocess.Popen(
                argv, env=whole, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._journal.note("process", name=name, pid=process.pid)
        self._started[name] = Daemon(name, process, log)
        return self._started[name]

    def reap(self) -> None:
        for daemon in self._started.values():
            daemon.reap()
        self._started.clear()
