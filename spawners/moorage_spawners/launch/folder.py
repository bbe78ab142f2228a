"""The folder of one generation of one role: what the shim wrote there, and whether that shim lives."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moorage_spawners.launch.types import Observation, ProcessSpec
from moorage_spawners.shim import cgroups, files, tree
from moorage_spawners.shim import main as shim

NEVER_STARTED = {"state": "exited", "message": "It was never started: whoever asked for it was interrupted."}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Holds an exclusive lock, across processes and threads, on a file that is made if need be."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _place(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]


class ProcessFolder:
    """`<root>/<workload>/<role>/<generation>`, 0700, out of every user's reach."""

    def __init__(self, path: Path, workload_id: str, role: str, generation: int) -> None:
        self.path = path
        self.workload_id = workload_id
        self.role = role
        self.generation = generation

    @property
    def alive(self) -> Path:
        return self.path / files.ALIVE

    @property
    def cookie(self) -> str:
        """Unlike that of any other installation on this machine, whatever its workloads are called."""
        return f"{self.workload_id}/{self.role}/{self.generation}/{_place(self.path)}"

    def spec(self) -> dict[str, Any] | None:
        return files.read(str(self.path / files.SPEC))

    def record(self) -> dict[str, Any] | None:
        return files.read(str(self.path / files.RECORD))

    def write_spec(self, spec: ProcessSpec) -> None:
        """Writes what the shim reads. The environment goes to a file of its own, which the shim removes."""
        files.write(str(self.path / files.ENVIRONMENT), dict(spec.env))
        content = {
            "workload_id": spec.workload_id,
            "generation": spec.generation,
            "role": spec.role,
            "argv": list(spec.argv),
            "cwd": spec.cwd,
            "identity": asdict(spec.identity),
            "size": None if spec.size is None else asdict(spec.size),
            "labels": dict(spec.labels),
            "ports": list(spec.ports),
            "cookie": self.cookie,
        }
        files.write(str(self.path / files.SPEC), content)

    def shim_lives(self) -> bool:
        """Whether a shim (or a sweep) stands over this process: it holds the lock as long as it lives."""
        try:
            descriptor = os.open(self.alive, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def observe(self) -> Observation | None:
        """What is seen, or None when nothing was ever started here."""
        # The lock is looked at before the record: a shim writes its last record before it lets the lock go.
        lives = self.shim_lives()
        spec, record = self.spec(), self.record()
        if spec is None:
            return None
        if record is None and not lives:  # it may have begun, or even ended, between the two looks
            lives, record = self.shim_lives(), self.record()
        if record is None:
            return self._observation(spec, {"state": "starting"} if lives else NEVER_STARTED)
        if record["state"] != "exited":
            if lives:
                record["out_of_memory"] = cgroups.out_of_memory(record["cgroups"])
            else:
                record = self._without_shim(spec, record)
        return self._observation(spec, record)

    def _without_shim(self, spec: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
        left = shim.left(spec, record)
        if left:
            pid = record["pid"] if tree.is_same(record["pid"], record.get("pid_start")) else None
            words = f"The process that watched it was killed; {len(left)} of its processes still run."
            return {**record, "state": "lost", "pid": pid, "message": words}
        record = shim.ended_unseen(record)
        with contextlib.suppress(OSError):  # a full disk: it is gone all the same, and the next look writes it down
            files.write(str(self.path / files.RECORD), record)
        return record

    def _observation(self, spec: dict[str, Any], record: dict[str, Any]) -> Observation:
        return Observation(
            workload_id=self.workload_id,
            generation=self.generation,
            role=self.role,
            state=record["state"],
            pid=record.get("pid") if record["state"] in ("running", "lost") else None,
            started_at=record.get("started_at"),
            ended_at=record.get("ended_at"),
            exit_code=record.get("exit_code"),
            signal=record.get("signal"),
            out_of_memory=int(record.get("out_of_memory") or 0),
            machine_restarted=bool(record.get("machine_restarted")),
            labels=spec["labels"],
            message=record.get("message"),
        )
