"""`make up`, as a person has it: the supervisor with its hub, proxy and service."""

import signal
import subprocess
import sys

from tests.faults.whole import Whole
from tests.waiting import eventually


class Up:
    """`moorage-hub up` on the state folder of a whole installation."""

    def __init__(self, whole: Whole, **settings: str) -> None:
        self.whole = whole
        self.environ = {**whole.environ, **settings}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        log = (self.whole.state / "logs" / "up.log").open("w")
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moorage_hub.main", "up", "--state", str(self.whole.state)],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        if wait:
            eventually(self.runs, within=120, what="Moorage running")

    def runs(self) -> bool:
        assert self.process is not None
        said = self.said
        assert self.process.poll() is None, said
        return "Moorage runs at" in said

    @property
    def said(self) -> str:
        return (self.whole.state / "logs" / "up.log").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)
