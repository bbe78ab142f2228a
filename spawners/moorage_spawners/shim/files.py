"""Small files that are either whole or absent, and times as text."""

import contextlib
import json
import os
import time
from typing import Any

SPEC, ENVIRONMENT, RECORD, STOP = "spec.json", "environment.json", "record.json", "stop.json"
ALIVE, LOG = "alive", "log"


def write(path: str, content: dict[str, Any]) -> None:
    """Replaces a file in one step, 0600; a reader sees the old content or the new, never half of it. Nothing is left when it raises."""
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read(path: str) -> dict[str, Any] | None:
    """The content of a file, or None when it is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return content


def now() -> str:
    """The time in UTC as ISO 8601 text."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
