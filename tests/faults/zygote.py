"""Starts services quickly: a process that has imported everything and forks one service for each line that it reads.

A line is a JSON object: {"environ": {...}, "log": path} answers {"pid": n}; {"poll": n} answers {"status": null or the exit status,
negative for a signal}. It ends, with what it started, when its input ends.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

from moorage_service import main
from moorage_spawners.launch import crash_points

PR_SET_PDEATHSIG = 1
status_of: dict[int, int | None] = {}


def start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        status_of[pid] = None
        return pid
    try:
        ctypes.CDLL(None).prctl(
            PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0
        )  # however this zygote ends, nothing of it stays
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        os.setsid()
        os.environ.clear()
        os.environ.update(order["environ"])
        crash_points._plan = crash_points.read_plan(os.environ)
        main.main()
    except BaseException as error:
        if not isinstance(error, SystemExit):
            raise
        sys.stderr.write(f"{error.code}\n")
        sys.stderr.flush()
        os._exit(1 if error.code else 0)
    os._exit(0)


def reap() -> None:
    while any(status is None for status in status_of.values()):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        status_of[pid] = os.waitstatus_to_exitcode(status)


for line in sys.stdin:
    asked = json.loads(line)
    if "poll" in asked:
        reap()
        answer: dict[str, Any] = {"status": status_of.get(asked["poll"])}
    else:
        answer = {"pid": start(asked)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
for pid, status in status_of.items():
    if status is None:
        os.kill(pid, signal.SIGKILL)
