"""A notebook's kernel that is attached to a real cluster: a process of the owner's, in the engines' environment, with our client.

It runs one piece of code after the other, as cells are run, and outlives whatever happens to its cluster.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.service.engines_bench import ROOT, Bench, engine_environment

NEEDED = ("httpx", "httpcore", "h11", "anyio", "certifi", "idna", "typing_extensions.py")  # by our client
MARK = "\x01"  # begins a line that is an answer: engines print, too
PROGRAM = """
import json, sys
names = {}
for line in sys.stdin:
    try:
        exec(json.loads(line), names)
        answer = {"value": names.get("value")}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print("\\x01" + json.dumps(answer), flush=True)
"""


class DriverError(Exception):
    """The code raised: its class and message."""


class Driver:
    """Of ada, with the token of her notebook. `run` gives what the code left in `value`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def start(self, code: str) -> None:
        """Begins to run it; `answer` waits for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            _, mark, text = line.partition(MARK)
            if mark:
                answer = json.loads(text)
                if "error" in answer:
                    raise DriverError(f"{answer['error']}: {answer['message']}")
                return answer["value"]
        raise AssertionError(f"the kernel ended with status {self._process.wait()}")

    def run(self, code: str) -> Any:
        self.start(code)
        return self.answer()


@contextmanager
def open_driver(bench: Bench) -> Iterator[Driver]:
    with tempfile.TemporaryDirectory(prefix="mo-driver-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _furnish(folder)
        with _running(bench, folder) as process:
            yield Driver(process)


def _furnish(folder: Path) -> None:
    """With our client and what it needs, where every uid can read it."""
    folder.chmod(0o755)
    here = Path(sys.modules["httpx"].__path__[0]).parent
    for package in NEEDED:
        (folder / package).symlink_to(here / package)
    (folder / "moorage").symlink_to(ROOT / "extensions" / "moorage")


@contextmanager
def _running(bench: Bench, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    env = {
        "PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", "MOORAGE_PROJECT": "starter",
        "MOORAGE_API_URL": str(bench.http.base_url).rstrip("/"),
        "MOORAGE_TOKEN": bench.notebook["Authorization"].removeprefix("Bearer "),
    }  # fmt: skip
    uid = bench.context.settings.uid_first + 1
    owner: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [str(engine_environment() / "bin" / "python"), "-c", PROGRAM], env=env, cwd="/", stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, text=True, **owner,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
