"""The service as processes of their own, which a test may kill, pause and start again."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage_service.settings import PREFIX
from tests.waiting import eventually

START_S = 60.0


class Zygote:
    """Forks services that are imported already (tests/faults/zygote.py): a restart costs a fraction of a second."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("zygote.py")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass
class Service:
    """One process. `crash_at` is the crash point at which it kills itself."""

    zygote: Zygote
    environ: dict[str, str]
    port: int
    log: Path
    crash_at: str | None = None
    pid: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def start(self) -> "Service":
        """Returns when it answers, or has died at its crash point."""
        crash = {} if self.crash_at is None else {"MOORAGE_CRASH_AT": self.crash_at}
        environ = {**os.environ, **self.environ, **crash, "MOORAGE_SERVICE_PORT": str(self.port)}
        self.pid = self.zygote.ask(environ=environ, log=str(self.log))["pid"]
        eventually(lambda: self.answers() or self.status() is not None, within=START_S, what="the service answering")
        status = self.status()
        assert status is None or self.crashed, f"the service ended with {status}:\n{self.log.read_text()[-4000:]}"
        return self

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", f"{PREFIX}/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def status(self) -> int | None:
        """None while it lives; the negative number of the signal that ended it."""
        found = self.zygote.ask(poll=self.pid)["status"]
        return None if found is None else int(found)

    @property
    def crashed(self) -> bool:
        """Whether it killed itself at its crash point."""
        return self.crash_at is not None and self.status() == -signal.SIGKILL

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Gone already: nothing."""
        self.signal(signal.SIGKILL)
        eventually(lambda: self.status() is not None, what="the service's end")

    def stop(self) -> None:
        """In good order; returns when it is gone."""
        self.signal(signal.SIGTERM)
        eventually(lambda: self.status() is not None, within=60, what="the service's end")

    @property
    def paused(self) -> bool:
        stat = Path(f"/proc/{self.pid}/stat")
        return self.status() is None and stat.read_text().rpartition(")")[2].split()[0] == "T"

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        if self.status() is None:
            os.kill(self.pid, number)
