"""A whole Moorage, started as its README says: `make up` in a state folder of its own, and `make down` in the end."""

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import yaml

from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+/hub/\S+")


class Installation:
    """`up` starts it and waits for the login link; `interrupt` is Ctrl-C; `down` ends all it started."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.output: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o755)

    def configure(self, **sections: dict[str, object]) -> None:
        (self.state / "settings.yaml").write_text(yaml.safe_dump(sections))

    def up(self, *, timeout_s: float = 1200) -> str:
        """Returns the one-time login link."""
        self.output = []
        self._process = subprocess.Popen(
            ["make", "up"], cwd=ROOT, env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()
        return eventually(self._link, within=timeout_s, what="the login link that make up prints")

    def interrupt(self, *, timeout_s: float = 60) -> str:
        """Ctrl-C, as a terminal sends it: to the whole foreground group. Returns what was printed afterwards."""
        assert self._process is not None
        before = len(self.output)
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(timeout=timeout_s)
        self._reader.join(timeout=10)
        return "".join(self.output[before:])

    def down(self) -> str:
        done = subprocess.run(
            ["make", "down"],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if self._process is not None:
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._reader.join(timeout=10)
        return done.stdout + done.stderr

    def _environment(self) -> dict[str, str]:
        """As a person's: without what the tests set for the services that they start."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("MOORAGE_SERVICE_")}
        return {**own, "MOORAGE_HOME": str(self.state)}

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.output.append(line)

    def _link(self) -> str | None:
        for line in self.output:
            if found := LINK.search(line):
                return found.group(0)
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"make up ended with {self._process.returncode}:\n{self._tail()}")
        return None

    def _tail(self) -> str:
        return "".join(self.output[-60:])
