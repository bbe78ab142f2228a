"""Workloads as processes of this machine, each under a shim."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import moorage_spawners
from moorage_spawners.launch.crash_points import reach
from moorage_spawners.launch.errors import LaunchError, OtherGenerationError
from moorage_spawners.launch.folder import ProcessFolder, locked
from moorage_spawners.launch.log_files import private
from moorage_spawners.launch.types import Observation, ProcessSpec
from moorage_spawners.launch.wall import PortWall
from moorage_spawners.shim import cgroups, files, tree
from moorage_spawners.shim.main import left

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
START_TIMEOUT_S = 30.0  # for the shim to say that it wrote its first record; tens of milliseconds as a rule
# -S leaves out site-packages, so that a shim starts in tens of milliseconds; our own packages follow last.
BOOT = """import sys
sys.path.append(sys.argv[1])
from moorage_spawners.shim import main
main.from_arguments(sys.argv[2:])"""
PACKAGES = str(Path(moorage_spawners.__file__).parent.parent)


def _anyone() -> None:
    """Who has no guard acts for itself: the hub's spawner, an admin's command."""


class LocalProcesses:
    """The processes under one folder. Every method is quick, may be repeated, and is safe across processes."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        # Called at the last moment before anything is started or ended; raises when that is not this process's to do any more.
        self.guard: Callable[[], None] = _anyone
        self.wall = PortWall(self.root.parent)
        # When to kill what is stopped although no stop.json can be written, by the monotonic clock; see `_signal`.
        self._kill_at: dict[Path, float] = {}

    def start(self, spec: ProcessSpec) -> Observation:
        """Starts a process, or says what is seen of it when this generation of this role was started before.

        Returns once the program runs. A program that cannot be started gives an `exited` observation whose message says
        why. Raises OtherGenerationError when another generation is in the way, LaunchError when the shim itself failed.
        """
        if not spec.argv or not all(isinstance(part, str) for part in spec.argv):
            raise LaunchError(f"argv of {spec.role} must be a list of at least one text, not {spec.argv!r}.")
        folder = self._folder(spec.workload_id, spec.role, spec.generation)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        folder.path.parent.mkdir(mode=0o700, exist_ok=True)
        with locked(folder.path.parent / "lock"):
            seen = folder.observe()
            if seen is not None and (folder.record() is not None or seen.state == "starting"):
                return seen
            self._refuse_beside_others(spec)
            self.guard()
            self.wall.hold(spec.ports, spec.identity.uid)
            self._spawn(folder, spec)
            seen = folder.observe()
            assert seen is not None
            return seen

    def _refuse_beside_others(self, spec: ProcessSpec) -> None:
        for other in self._generations(spec.workload_id, spec.role):
            if other.generation > spec.generation:
                raise OtherGenerationError(
                    f"Generation {spec.generation} of {spec.workload_id}/{spec.role} is outdated: "
                    f"{other.generation} was started."
                )
            seen = other.observe()
            if other.generation != spec.generation and seen is not None and not seen.gone:
                raise OtherGenerationError(
                    f"Generation {other.generation} of {spec.workload_id}/{spec.role} still runs; "
                    f"stop it before {spec.generation} starts."
                )

    def _spawn(self, folder: ProcessFolder, spec: ProcessSpec | None) -> None:
        """Starts a shim that holds the folder's lock (without a spec: a sweep); waits until its record is written."""
        folder.path.mkdir(mode=0o700, exist_ok=True)
        with locked(folder.alive) as alive:  # held by passing observers only; the shim inherits it with the descriptor
            if spec is not None:
                folder.write_spec(spec)
                reach("launch.written")
            mode = "sweep" if spec is None else "run"
            ready, told = os.pipe()
            try:
                argv = [sys.executable, "-I", "-S", "-c", BOOT, PACKAGES, str(folder.path), mode, str(alive), str(told)]
                with open(folder.path / "shim.log", "ab", opener=private) as log:
                    starter = subprocess.Popen(
                        argv, env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, cwd="/", pass_fds=(alive, told),
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    )  # fmt: skip
                reach("launch.spawned")
                os.close(told)
                told = -1
                starter.wait(START_TIMEOUT_S)
                os.read(ready, 1)  # the end of the pipe is an answer, too: the record says which
            finally:
                os.close(ready)
                if told >= 0:
                    os.close(told)
        if folder.record() is None:
            tail = (folder.path / "shim.log").read_text(errors="replace")[-2000:]
            raise LaunchError(f"The shim of {folder.workload_id}/{folder.role} failed: {tail or 'it left no message'}")

    def observe(self, workload_id: str) -> list[Observation]:
        """What is seen of a workload: the newest generation of each role, and any older one that is not gone."""
        found = []
        for role in self._names(self._path(workload_id)):
            generations = sorted(self._generations(workload_id, role), key=lambda folder: folder.generation)
            for folder in generations:
                seen = folder.observe()
                if seen is not None and (folder is generations[-1] or not seen.gone):
                    found.append(seen)
        return found

    def observe_all(self) -> list[Observation]:
        """What is seen of every workload there is a record of."""
        return [seen for workload_id in self._names(self.root) for seen in self.observe(workload_id)]

    def held_ports(self) -> dict[int, int]:
        """Port -> uid, of all that lives: what the wall is raised with after a restart of the machine or the service."""
        held = {}
        for seen in self.observe_all():
            if not seen.gone:
                spec = self._folder(seen.workload_id, seen.role, seen.generation).spec() or {}
                uid = spec.get("identity", {}).get("uid")
                held.update({} if uid is None else dict.fromkeys(spec.get("ports", ()), uid))
        return held

    def groups(self) -> dict[str, list[str]]:
        """The folders of every control group that is ours, by workload; also of those that left no record."""
        found: dict[str, list[str]] = {}
        for name, folders in cgroups.listed().items():
            workload_id, _, rest = name.partition(".")
            role, _, generation = rest.rpartition(".")[0].rpartition(".")
            if not (NAME.fullmatch(workload_id) and NAME.fullmatch(role) and generation.isdecimal()):
                continue
            if name == self._folder(workload_id, role, int(generation)).cookie.replace("/", "."):
                found.setdefault(workload_id, []).extend(folders)
        return found

    def remove_groups(self, workload_id: str) -> None:
        """Removes what control groups are left of a workload; one that still has processes stays."""
        cgroups.remove(self.groups().get(workload_id, []))

    def stop(
        self, workload_id: str, *, role: str | None = None, generation: int | None = None, grace_s: float = 10
    ) -> None:
        """Asks the shims to end their process: SIGTERM to it, then to what it left, SIGKILL to all after `grace_s`.

        Returns at once; `observe` tells when it is gone. What is gone already, or was never there, is no error. A later
        call with a shorter grace wins. Where the shim was killed, another one is started that ends what is left. On a disk that takes
        no more we send the signals ourselves: SIGTERM now, SIGKILL at the first call after `grace_s`.
        """
        self.guard()
        for name in [role] if role is not None else self._names(self._path(workload_id)):
            for folder in self._generations(workload_id, name):
                if generation in (None, folder.generation):
                    self._stop_one(folder, grace_s)

    def _stop_one(self, folder: ProcessFolder, grace_s: float) -> None:
        seen = folder.observe()
        if seen is None or seen.gone:
            self._kill_at.pop(folder.path, None)
            return
        wish = {"kill_at": time.time() + grace_s, "asked_at": files.now()}
        before = files.read(str(folder.path / files.STOP))
        if before is None or before["kill_at"] > wish["kill_at"]:
            try:
                files.write(str(folder.path / files.STOP), wish)
            except OSError:
                self._signal(folder, grace_s)
        reach("launch.stop_asked")
        record = folder.record()
        if folder.shim_lives():
            # Without a record yet the shim finds the wish by itself before it starts anything.
            if record is not None and tree.is_same(record["shim_pid"], record["shim_start"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record["shim_pid"], signal.SIGTERM)
            return
        with locked(folder.path.parent / "lock"):
            seen = folder.observe()
            if seen is not None and seen.state == "lost":
                self._spawn(folder, None)

    def _signal(self, folder: ProcessFolder, grace_s: float) -> None:
        """What the shim would do, had it been told; it learns of the end as of any other."""
        spec, record = folder.spec(), folder.record()
        if spec is None or record is None:
            return  # nothing was started yet, and without a record nothing will be
        first, kill_at = folder.path not in self._kill_at, time.monotonic() + grace_s
        self._kill_at[folder.path] = kill_at = min(kill_at, self._kill_at.get(folder.path, kill_at))
        if time.monotonic() >= kill_at:
            tree.signal_all(left(spec, record), signal.SIGKILL)
        elif first:
            pid = record["pid"]
            own = {pid} if tree.is_same(pid, record.get("pid_start")) else left(spec, record)
            tree.signal_all(own, signal.SIGTERM)

    def forget(self, workload_id: str, *, role: str | None = None) -> None:
        """Removes the records and logs of a workload, or of one role, of which nothing runs; leaves what runs as it is."""
        self.guard()
        seen = [each for each in self.observe(workload_id) if role in (None, each.role)]
        if not all(each.gone for each in seen):
            return
        for name in [role] if role is not None else self._names(self._path(workload_id)):
            for folder in self._generations(workload_id, name):
                cgroups.remove((folder.record() or {}).get("cgroups", []))
        path = self._path(workload_id)
        shutil.rmtree(path if role is None else path / role, ignore_errors=True)

    def log_path(self, workload_id: str, role: str) -> Path:
        """Where the newest generation's output goes (it may not exist yet). Bytes as the program wrote them."""
        generations = [folder.generation for folder in self._generations(workload_id, role)]
        return self._folder(workload_id, role, max(generations, default=1)).path / files.LOG

    def log_tail(self, workload_id: str, role: str, longest: int) -> bytes:
        """The end of the newest generation's output."""
        path = self.log_path(workload_id, role)
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - longest))
                return file.read()
        except FileNotFoundError:
            return b""

    def limits_enforced(self) -> str | None:
        """None when sizes bind here; else the sentence that says they are advisory, and why."""
        return self._limits

    @cached_property
    def _limits(self) -> str | None:
        return cgroups.missing()

    def _path(self, workload_id: str) -> Path:
        if not NAME.fullmatch(workload_id):
            raise ValueError(f"workload id {workload_id!r}: lower-case letters, digits, dot, dash and underscore only")
        return self.root / workload_id

    def _folder(self, workload_id: str, role: str, generation: int) -> ProcessFolder:
        if not NAME.fullmatch(role):
            raise ValueError(f"role {role!r}: lower-case letters, digits, dot, dash and underscore only")
        return ProcessFolder(self._path(workload_id) / role / str(generation), workload_id, role, generation)

    def _generations(self, workload_id: str, role: str) -> list[ProcessFolder]:
        parent = self._folder(workload_id, role, 0).path.parent
        return [self._folder(workload_id, role, int(name)) for name in self._names(parent) if name.isdigit()]

    def _names(self, parent: Path) -> list[str]:
        try:
            with os.scandir(parent) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
