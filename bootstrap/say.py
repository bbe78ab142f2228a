"""Progress in words, with the time that has passed, for a terminal and for a log alike."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bootstrap.places import SetupError

BEGIN = time.monotonic()
STILL_S = 10.0  # how often a long step says that it is still at work
TAIL_LINES = 25


def say(text: str) -> None:
    sys.stdout.write(f"[{time.monotonic() - BEGIN:5.1f} s] {text}\n")
    sys.stdout.flush()


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says what begins, that it goes on, and how long it took."""
    say(text)
    begin = time.monotonic()
    ended = threading.Event()

    def still() -> None:
        while not ended.wait(STILL_S):
            say(f"  ... still at it: {text[0].lower()}{text[1:]}")

    thread = threading.Thread(target=still, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if time.monotonic() - begin > 1:
        say(f"  done in {time.monotonic() - begin:.1f} s")


def run(argv: Sequence[str | Path], what: str, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Runs a command quietly and returns what it printed. Raises SetupError with the end of that when it fails."""
    try:
        done = subprocess.run(
            [str(part) for part in argv], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
    except OSError as error:
        raise SetupError(f"{what} failed: {argv[0]}: {error.strerror}.") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-TAIL_LINES:])
        raise SetupError(f"{what} failed with exit status {done.returncode}. The end of its output:\n{tail}")
    return done.stdout
