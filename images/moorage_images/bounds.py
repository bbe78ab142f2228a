"""What a build may take of the machine. Packages' code runs in a build; whoever wrote it is nobody we know."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moorage.folders import remove
from moorage_images.errors import BuildError

GIB = 1 << 30
# Where any account may write. What a build leaves there is removed with it.
OPEN_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108 - others' files there are what is looked for
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """`memory` and `free_disk` in bytes, of all its processes together; `time_s` for each of its commands."""

    memory: int = 8 * GIB
    processes: int = 1000
    free_disk: int = GIB  # what it must leave free on the disk
    time_s: float = 3600.0

    def around(self, argv: list[str], *, of_own_uid: bool) -> list[str]:
        """The command under limits of the kernel's, by util-linux's prlimit: limits can't be set from here in a process with threads."""
        program = shutil.which("prlimit")
        if program is None:
            return argv
        most = (
            [f"--nproc={self.processes}:{self.processes}"] if of_own_uid else []
        )  # it counts all processes of the uid
        return [program, "--core=0:0", *most, "--", *argv]

    def check(self, folder: Path, pids: Iterable[int]) -> None:
        """Raises BuildError when the processes took too much, or left too little on the disk of `folder`."""
        taken = sum(_memory(pid) for pid in pids)
        if taken > self.memory:
            raise BuildError(
                f"The build took more than {self.memory / GIB:.3g} GiB of memory and was ended. Ask for packages with wheels, "
                "or ask an admin to raise `build_memory`."
            )
        for place, least in self._floors(folder):
            free = shutil.disk_usage(place).free
            if free < least:
                raise BuildError(
                    f"Only {free / GIB:.3g} GiB are free at {place}, and a build must leave {least / GIB:.3g} GiB; it was ended. "
                    "Ask for fewer packages, or ask an admin to make room."
                )

    def _floors(self, folder: Path) -> Iterator[tuple[Path, int]]:
        yield folder, self.free_disk
        for place in OPEN_FOLDERS:
            if place.exists() and place.stat().st_dev != folder.stat().st_dev:
                yield place, min(self.free_disk, shutil.disk_usage(place).total // 10)  # /dev/shm may be small


def processes(belongs: Callable[[dict[str, str]], bool]) -> list[int]:
    """The living processes whose /proc/<pid>/status `belongs` accepts."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                status = (entry / "status").read_text()
                fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
                if not fields["State"].strip().startswith(("Z", "X")) and belongs(fields):
                    found.append(int(entry.name))
    return found


def sweep_open_folders(uid: int, folders: Iterable[Path] = OPEN_FOLDERS) -> None:
    """Removes what the account left where anybody may write. None of its processes may live."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(folder)):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_uid != uid:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        remove(Path(entry.path), ignore_errors=True)
                    else:
                        os.unlink(entry.path)


def _memory(pid: int) -> int:
    """Its own, without what it shares, in bytes."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE
