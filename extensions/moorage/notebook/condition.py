"""What a notebook server in a pod notices of itself, and its cluster does not: programs that were ended for want of memory while the
server lived on, and a home into which nothing more fits. It tells the service, which tells the owner.

Loaded by the notebook server only.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tornado.ioloop import PeriodicCallback
from traitlets import Float, Unicode
from traitlets.config import LoggingConfigurable

from moorage import calls
from moorage.asyncclient import AsyncClient
from moorage.environment import Surroundings
from moorage.errors import MoorageError
from moorage.wire import NotebookCondition

FULL = 1 << 20  # bytes that are left: less is none
# Of the pod's own control group, version 2 or 1, as it is mounted in a container: lines of a name and a number.
EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))

log = logging.getLogger(__name__)


class Condition(LoggingConfigurable):
    """Looks every `check_s`, and tells what has changed. A full home is told as long as it is: who heard of it may have forgotten."""

    check_s = Float(5.0, help="Seconds between two looks.").tag(config=True)
    home = Unicode("", help="The user's home; when empty, as outside of a pod, nothing is looked at.").tag(config=True)

    def __init__(self, around: Surroundings, *, events: Sequence[Path] = EVENTS, **given: Any) -> None:
        super().__init__(**given)
        self._around = around
        self._events = events
        self._told = NotebookCondition()
        self._looks = PeriodicCallback(self.look, self.check_s * 1000)

    def start(self) -> None:
        if self.home and self._around.api_url and self._around.token:
            self._looks.start()

    async def look(self) -> None:
        """Tells what is new. What the service did not take is told at the next look."""
        now = NotebookCondition(out_of_memory=killed(self._events), home_full=is_full(self.home))
        if now == self._told and not now.home_full:
            return
        url, token = self._around.api_url, self._around.token
        assert url is not None
        assert token is not None
        try:
            async with AsyncClient(url, token, delays=()) as client:
                await client.send(calls.report_condition(now))
        except MoorageError as error:
            log.info("the service was not told of this notebook's condition: %s", error)
            return
        self._told = now


def killed(events: Sequence[Path]) -> int:
    """How many programs of this pod the kernel ended for want of memory; 0 where that is not said."""
    for path in events:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        counted = dict(line.split(maxsplit=1) for line in lines if " " in line)
        return int(counted.get("oom_kill", 0))
    return 0


def is_full(folder: str) -> bool:
    """Whether the user can write nothing more there."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    no_files = found.f_files > 0 and found.f_favail == 0
    return found.f_bavail * found.f_frsize < FULL or no_files
