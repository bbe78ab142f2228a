"""The shim's own program: starts one process, watches it, ends its whole tree, and records how it ended.

Started by `launch.LocalProcesses` with FOLDER MODE ALIVE READY. ALIVE is a descriptor on which an exclusive
flock is held: as long as this process lives nobody else can hold it, which is how others know that it lives. READY is
a pipe on which it says that the first record is written. MODE is "run", or "sweep" to end what a killed shim left.

It reads FOLDER/spec.json and FOLDER/environment.json (removed at once: it may hold secrets), writes FOLDER/record.json,
and is told to stop by FOLDER/stop.json followed by SIGTERM. While the disk takes no record it keeps it, and tries again.
"""

import contextlib
import ctypes
import os
import resource
import signal
import time
from typing import Any

from moorage_spawners.shim import cgroups, files, tree

PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
LEFTOVER_GRACE_S = 2.0  # for what the main process left behind when it ended
HEARTBEAT_S = 30.0
POLL_S = 0.05
RETRY_S = 1.0  # between two tries to write a record that the disk does not take
LAST_TRIES_S = 3.0  # for the last record once we are told to stop: whoever waits for the end must not wait for the disk
KILLED = "How it ended is not known: the process that watched it was killed."
WATCHED = {signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP}


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def from_arguments(arguments: list[str]) -> None:
    """FOLDER MODE ALIVE READY, as above. Runs until nothing of the workload is left; detaches from the caller first."""
    folder, mode, alive, ready = arguments[0], arguments[1], int(arguments[2]), int(arguments[3])
    if os.fork():
        os._exit(0)  # the caller reaps this half at once; the other half belongs to init
    os.setsid()
    os.set_inheritable(alive, False)
    os.set_inheritable(ready, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    if mode == "sweep":
        Sweep(folder).run(ready)
    else:
        Shim(folder).run(ready)


def tell(ready: int) -> None:
    """Says on the pipe that the first record is written. Whoever waited for it may have been killed meanwhile: no matter of ours."""
    with contextlib.suppress(BrokenPipeError):
        os.write(ready, b"1")
    os.close(ready)


class Stopping:
    """The stop that was asked for, if any: read from stop.json, where a later, shorter grace wins."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, files.STOP)
        self.kill_at: float | None = None

    def asked(self) -> bool:
        wish = files.read(self._path)
        if wish is not None:
            # Wall-clock time crosses from the asking process to this one; from here on only the monotonic clock counts.
            left = max(0.0, float(wish["kill_at"]) - time.time())
            kill_at = time.monotonic() + left
            self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        return wish is not None


class Shim:
    """Watches one process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        spec = files.read(os.path.join(folder, files.SPEC))
        environment = files.read(os.path.join(folder, files.ENVIRONMENT))
        assert spec is not None
        assert environment is not None
        os.unlink(os.path.join(folder, files.ENVIRONMENT))
        self.spec = spec
        self.environment: dict[str, str] = {**environment, tree.COOKIE: spec["cookie"]}
        self.group = cgroups.Group([], set())
        self.stopping = Stopping(folder)
        self.pid = 0
        self.status: int | None = None
        self.unsaved = False  # whether the record on disk is older than ours
        self.terminated = (
            False  # whether somebody sent us SIGTERM: where stop.json can't be written, all that we are told
        )
        self.record: dict[str, Any] = {
            "state": "starting", "shim_pid": os.getpid(), "shim_start": tree.started(os.getpid()), "pid": None,
            "started_at": files.now(), "ended_at": None, "exit_code": None, "signal": None, "out_of_memory": 0,
            "message": None, "cgroups": [], "enforced": [], "boot": tree.boot(),
        }  # fmt: skip

    def save(self, **changes: Any) -> None:
        """Raises OSError, as on a full disk; what it was to write is kept."""
        self.record.update(changes)
        self.unsaved = True
        files.write(os.path.join(self.folder, files.RECORD), self.record)
        self.unsaved = False

    def try_to_save(self, **changes: Any) -> None:
        with contextlib.suppress(OSError):
            self.save(**changes)

    def save_end(self, *, ready: int | None = None, **values: Any) -> None:
        """The last record. It says how a run ended, which nobody can find out later: tried until it is written, or we are told to stop.

        Who waits at `ready` waits for the first try alone.
        """
        self.try_to_save(state="exited", ended_at=files.now(), **values)
        if ready is not None:
            os.close(ready)
        give_up_at = None
        while self.unsaved:
            if give_up_at is None and (self.terminated or self.stopping.asked()):
                give_up_at = time.monotonic() + LAST_TRIES_S
            if give_up_at is not None and time.monotonic() >= give_up_at:
                return
            self.wait(RETRY_S)
            self.try_to_save()

    def run(self, ready: int) -> None:
        if self.stopping.asked():
            self.save_end(ready=ready, message="It was stopped before it started.")
            return
        size = self.spec["size"] or {}
        self.group = cgroups.create(self.spec["cookie"].replace("/", "."), size.get("cpu"), size.get("memory"))
        self.save(cgroups=self.group.folders, enforced=sorted(self.group.enforced))
        error = self.start()
        if error is not None:
            os.waitpid(self.pid, 0)
            cgroups.remove(self.group.folders)
            self.save_end(ready=ready, exit_code=127, message=f"It could not be started: {error}.")
            return
        self.try_to_save(state="running", pid=self.pid, pid_start=tree.started(self.pid))
        tell(ready)
        self.watch()

    def start(self) -> str | None:
        """Starts the process. What hindered it, or None once its program runs."""
        failed_read, failed_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            step = Step()
            try:
                self.become(step)
            except BaseException as error:  # noqa: BLE001 - this half must end here, whatever happened
                text = getattr(error, "strerror", None) or repr(error)
                os.write(failed_write, f"{step.name}: {text}".encode())
            finally:
                os._exit(127)
        os.close(failed_write)
        with os.fdopen(failed_read, "rb") as pipe:
            return pipe.read().decode(errors="replace") or None

    def become(self, step: "Step") -> None:
        """In the new process: session, group, log, identity, folder, program."""
        spec, identity = self.spec, self.spec["identity"]
        os.setsid()
        cgroups.join(self.group.folders)
        step.name = "its log"
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(os.path.join(self.folder, files.LOG), append, 0o600)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        step.name = f"changing to uid {identity['uid']}"
        if identity["uid"] is not None:
            os.setgroups([])
            os.setgid(identity["gid"])
            os.setuid(identity["uid"])
            prctl(PR_SET_NO_NEW_PRIVS, 1)
        os.umask(0o077)
        step.name = f"its folder {spec['cwd']}"
        os.chdir(spec["cwd"])
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        step.name = f"its program {spec['argv'][0]}"
        os.execvpe(spec["argv"][0], spec["argv"], self.environment)  # noqa: S606 - a program and its arguments

    def watch(self) -> None:
        """Until the whole tree is gone."""
        told = False
        while True:
            childless = self.reap()
            if self.status is not None:
                break
            if self.stopping.asked() and not told:
                told = True
                tree.signal_all({self.pid}, signal.SIGTERM)
                tree.signal_all({self.pid}, signal.SIGCONT)
            kill_at = self.stopping.kill_at
            if kill_at is not None and time.monotonic() >= kill_at:
                tree.signal_all(self.everyone(), signal.SIGKILL)
                self.wait(POLL_S)
            else:
                if self.unsaved:
                    self.try_to_save()
                longest = RETRY_S if self.unsaved else HEARTBEAT_S
                self.wait(longest if kill_at is None else min(longest, kill_at - time.monotonic()))
        if not childless or self.everyone():
            self.end_leftovers()
        self.finish()

    def end_leftovers(self) -> None:
        """Ends what the main process left behind, however far it has forked away."""
        kill_at = time.monotonic() + LEFTOVER_GRACE_S
        tree.signal_all(self.everyone(), signal.SIGTERM)
        while not (self.reap() and not self.everyone()):
            self.stopping.asked()
            if time.monotonic() >= min(kill_at, self.stopping.kill_at or kill_at):
                tree.signal_all(self.everyone(), signal.SIGKILL)
            self.wait(POLL_S)

    def everyone(self) -> set[int]:
        return (tree.descendants(os.getpid()) | cgroups.members(self.group.folders)) - {os.getpid()}

    def reap(self) -> bool:
        """Takes the status of children that ended. True when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.pid:
                self.status = status

    def wait(self, seconds: float) -> None:
        seen = signal.sigtimedwait(WATCHED, max(0.0, seconds))
        self.terminated |= seen is not None and seen.si_signo == signal.SIGTERM

    def finish(self) -> None:
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        memory = cgroups.out_of_memory(self.group.folders)
        cgroups.remove(self.group.folders)
        self.save_end(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            out_of_memory=memory,
            message="It ran out of memory." if memory and code != 0 else None,
        )


class Step:
    """What the new process is about to do, for the sentence when it fails."""

    name = "its session"


class Sweep:
    """Ends what is left of a process whose shim was killed, and writes the record that the shim could not."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.stopping = Stopping(folder)

    def run(self, ready: int) -> None:
        tell(ready)
        record = files.read(os.path.join(self.folder, files.RECORD))
        spec = files.read(os.path.join(self.folder, files.SPEC))
        assert record is not None
        assert spec is not None
        self.stopping.asked()
        kill_at = self.stopping.kill_at or time.monotonic()
        tree.signal_all(left(spec, record), signal.SIGTERM)
        while targets := left(spec, record):
            if time.monotonic() >= kill_at:
                tree.signal_all(targets, signal.SIGKILL)
            signal.sigtimedwait(WATCHED, POLL_S)
            self.stopping.asked()
            kill_at = min(kill_at, self.stopping.kill_at or kill_at)
        with contextlib.suppress(OSError):  # whoever looks next writes it
            files.write(os.path.join(self.folder, files.RECORD), ended_unseen(record))


def left(spec: dict[str, Any], record: dict[str, Any]) -> set[int]:
    """The living processes of a workload process whose shim is gone. After a restart of the machine: none, whoever has its pids."""
    if restarted(record):
        return set()
    found = cgroups.members(record["cgroups"]) | tree.marked(spec["cookie"], record["pid"], record.get("pid_start"))
    return {pid for pid in found - {os.getpid()} if tree.started(pid) is not None}


def restarted(record: dict[str, Any]) -> bool:
    """Whether the machine was restarted since the record was begun."""
    return record.get("boot") not in (None, tree.boot())


def ended_unseen(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a process that is gone, and of which nobody saw the end."""
    memory = cgroups.out_of_memory(record["cgroups"])
    cgroups.remove(record["cgroups"])
    by_restart = restarted(record)
    words = "The machine was restarted." if by_restart else KILLED
    return {
        **record, "state": "exited", "ended_at": files.now(), "out_of_memory": memory, "message": words,
        "machine_restarted": by_restart,
    }  # fmt: skip
