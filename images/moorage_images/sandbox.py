"""Where the code of packages runs while an environment is built: a throwaway identity with nothing to steal.

As root: a uid that nobody else has, a clean process environment, a folder of its own, and no way into the 0700 folders of
the state. Not as root there is one user only, and the wall is a clean process environment.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from moorage.folders import remove
from moorage_images.bounds import Bounds, processes, sweep_open_folders
from moorage_images.errors import BuildCancelledError, BuildError
from moorage_images.network import hider

Log = Callable[[str], None]  # gets one line, without its end

_LONGEST_LINE = 2000  # bytes; the rest of a longer one is left out
_LINE_COST = 60  # bytes of memory beside those of its text
_NOT_RUN = (126, 127)  # of prlimit and of shells: the program may not be run, or is not there
_CHECK_S = 0.5  # between two looks at what a build takes
_LONGEST_OUTPUT = 16 << 20


@dataclass(frozen=True)
class Account:
    """Numbers no one else on the machine has; no passwd entry is needed."""

    uid: int
    gid: int


class Sandbox:
    """A folder with the account's `home/` and `tmp/`, and commands run in it. Use as a context.

    The folder itself stays ours, so that the account can't put a link where we are about to write.
    """

    def __init__(self, folder: Path, account: Account | None, variables: Mapping[str, str], bounds: Bounds) -> None:
        self.folder = folder
        self.bounds = bounds
        self.account = account
        self._variables = dict(variables)
        self._hide = hider(variables)

    def __enter__(self) -> "Sandbox":
        self.end_processes()  # of a build whose service was killed
        self.folder.mkdir(parents=True, mode=0o700)
        self._show(self.folder, 0o750)
        for name in ("home", "tmp"):
            self.give(self.folder / name, 0o700)
        return self

    def __exit__(self, *_: object) -> None:
        self.end_processes()
        if self.account is not None:
            sweep_open_folders(self.account.uid)
        remove(self.folder, ignore_errors=True)

    def give(self, folder: Path, mode: int) -> None:
        """A new folder that belongs to the account. Its parent must be ours."""
        folder.mkdir(mode=mode)
        folder.chmod(mode)  # whatever our umask is
        if self.account is not None:
            os.chown(folder, self.account.uid, self.account.gid)

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the folder that the account can read."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self._show(path, 0o640)
        return path

    def _show(self, path: Path, mode: int) -> None:
        if self.account is not None:
            os.chown(path, -1, self.account.gid)
            path.chmod(mode)

    def run(self, argv: Sequence[str | Path], log: Log, cancel: threading.Event) -> tuple[int, str]:
        """Runs a command to its end: exit code, and what it wrote to stdout. Each line of stderr goes to `log`.

        Raises BuildCancelledError when `cancel` is set, BuildError when it goes beyond the `bounds`.
        """
        account = self.account
        try:
            process = subprocess.Popen(
                self.bounds.around([str(part) for part in argv], of_own_uid=account is not None),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",  # so that no project's configuration above a working folder is found
                env=self._environment(),
                umask=0o022,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except OSError as error:
            raise self._not_run(argv[0]) from error
        assert process.stdout is not None
        assert process.stderr is not None
        output: list[str] = []
        readers = [_reader(process.stdout, output.append), _reader(process.stderr, lambda line: log(self._hide(line)))]
        try:
            self._wait(process, cancel)
        finally:
            _end_group(process)
            for reader in readers:
                reader.join(timeout=10)
        if process.returncode in _NOT_RUN:
            raise self._not_run(argv[0])
        return process.returncode, "\n".join(output) + "\n"

    def _not_run(self, program: str | Path) -> BuildError:
        who = f"uid {self.account.uid}" if self.account else "this user"
        return BuildError(f"{program} can't be run by {who}. An admin has to make it readable.")

    def _environment(self) -> dict[str, str]:
        return {
            **self._variables,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }

    def _wait(self, process: "subprocess.Popen[bytes]", cancel: threading.Event) -> None:
        deadline = time.monotonic() + self.bounds.time_s
        next_check = time.monotonic()
        # WNOWAIT: the process stays a zombie, so that its number can't be another's when its group is ended.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if cancel.wait(0.1):
                raise BuildCancelledError("The build was cancelled.")
            if time.monotonic() > deadline:
                raise BuildError(
                    f"The build took longer than {self.bounds.time_s:.0f} s and was ended. Ask for fewer packages, "
                    "or ask an admin to raise `build_timeout_s`."
                )
            if time.monotonic() > next_check:
                next_check = time.monotonic() + _CHECK_S
                self.bounds.check(self.folder, self._processes(process.pid))

    def _processes(self, session: int) -> list[int]:
        """The build's: by its uid, or where it has none of its own by the session that was made for it."""
        if self.account is not None:
            return _processes_of(self.account.uid)
        return processes(lambda fields: _session(int(fields["Pid"])) == session)

    def end_processes(self) -> None:
        """Ends whatever still runs under the account: a package's build may have left a daemon behind, or forks for ever."""
        if self.account is None:
            return
        stopped: set[int] = set()
        for _ in range(200):
            left = _processes_of(self.account.uid)
            if not left:
                return
            # First all are stopped, until no new one appears: a process that was killed makes room for one that forks.
            end = stopped.issuperset(left)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if end else signal.SIGSTOP)
            stopped |= set(left)
            if end:
                time.sleep(0.05)
        raise BuildError(f"Processes of the build's uid {self.account.uid} do not end: {left}. An admin has to look.")


def _reader(stream: IO[bytes], line_to: Log) -> threading.Thread:
    def read() -> None:
        taken = 0
        begins = True
        for piece in iter(lambda: stream.readline(_LONGEST_LINE), b""):  # bounded: a line may have no end
            if begins:
                taken += len(piece) + _LINE_COST
                if taken <= _LONGEST_OUTPUT:
                    line_to(piece.decode(errors="replace").rstrip())
            begins = piece.endswith(b"\n")
        stream.close()

    thread = threading.Thread(target=read, daemon=True, name="build-output")
    thread.start()
    return thread


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _processes_of(uid: int) -> list[int]:
    return processes(lambda fields: int(fields["Uid"].split()[0]) == uid)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1
