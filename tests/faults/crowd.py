"""Many live workloads at once, without their processes: rows as they are when all goes well, and records whose shims this process plays.

What a reconcile pass costs can be measured so at sizes that no test machine could run.
"""

import fcntl
import json
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from moorage.wire import ClusterSpec, Phase, Size, WorkloadKind
from moorage_service.clusters.engines import ENGINES
from moorage_service.context import Context
from moorage_service.store.tables import (
    ClusterRow,
    JobRow,
    JobVersionRow,
    ProjectRow,
    ReservationRow,
    RunRow,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from moorage_spawners.shim import files, tree

SIZE = Size(cpu=0.1, memory=1 << 26)
ROLES = {
    WorkloadKind.NOTEBOOK: ["server"],
    WorkloadKind.RUN: ["runner"],
    WorkloadKind.CLUSTER: ["head", "worker-1", "agent"],
}
PHASES = {WorkloadKind.NOTEBOOK: Phase.READY, WorkloadKind.RUN: Phase.RUNNING, WorkloadKind.CLUSTER: Phase.READY}


class Crowd:
    """Workloads of `owner` in `project`; `close` lets the records go."""

    def __init__(self, context: Context, owner: UserRow, project: ProjectRow) -> None:
        self._context = context
        self._owner = owner
        self._project = project
        self._shims: list[int] = []
        self._version: JobVersionRow | None = None
        self._count = 0
        self._blocks = 0

    def close(self) -> None:
        for shim in self._shims:
            os.close(shim)
        self._shims.clear()

    def add(self, kind: WorkloadKind, count: int) -> None:
        """`count` more that run as they should."""
        with self._context.database.begin() as session:
            made = [self._workload(session, kind, PHASES[kind]) for _ in range(count)]
            session.flush()
            for workload in made:
                self._part(session, kind, workload)
        for workload in made:
            for role in ROLES[kind]:
                self._record(workload.id, role)

    def add_queued_runs(self, count: int) -> None:
        with self._context.database.begin() as session:
            made = [self._workload(session, WorkloadKind.RUN, Phase.QUEUED) for _ in range(count)]
            session.flush()
            for workload in made:
                self._part(session, WorkloadKind.RUN, workload)

    def _workload(self, session: Session, kind: WorkloadKind, phase: Phase) -> WorkloadRow:
        self._count += 1
        now = self._context.clock()
        workload = lifecycle.new_workload(
            session, kind=kind, name=f"{kind.value}-{self._count}", owner_id=self._owner.id, project_id=self._project.id, now=now,
            phase=phase, environment=self._project.environment, details={"size": asdict(SIZE)},
        )  # fmt: skip
        if phase is not Phase.QUEUED:
            workload.started_at = workload.ready_at = now
        return workload

    def _part(self, session: Session, kind: WorkloadKind, workload: WorkloadRow) -> None:
        now = self._context.clock()
        if workload.phase != Phase.QUEUED.value:
            session.add(
                ReservationRow(
                    workload_id=workload.id, user_id=self._owner.id, project_id=self._project.id, amounts={"cpu": 100}, bound=True,
                    lease_expires_at=now + timedelta(hours=1), created_at=now,
                )
            )  # fmt: skip
        if kind is WorkloadKind.RUN:
            version = self._version or self._a_version(session)
            session.add(RunRow(workload_id=workload.id, job_id=version.job_id, version_id=version.id, trigger="manual"))
        elif kind is WorkloadKind.CLUSTER:
            self._blocks += 1
            spec = ClusterSpec(engine="ray", min_workers=1, max_workers=1, worker=SIZE, head=SIZE)
            credentials = {**ENGINES["ray"].credentials(workload.id, ("localhost",), now), "agent": "token"}
            session.add(
                ClusterRow(
                    workload_id=workload.id, engine="ray", spec=asdict(spec), port_block=self._blocks, target_workers=1,
                    sealed=self._context.vault.seal(json.dumps(credentials)), reported_at=now,
                    report={"versions": {"ray": "2"}, "workers": [{"name": "worker-1", "busy": True, "idle_s": 0.0}]},
                    scale={"workers": ["worker-1"], "next": 2},
                )
            )  # fmt: skip

    def _a_version(self, session: Session) -> JobVersionRow:
        now = self._context.clock()
        job = JobRow(project_id=self._project.id, name="of the crowd", run_as=self._owner.id, created_at=now)
        session.add(job)
        session.flush()
        self._version = JobVersionRow(
            job_id=job.id, number=1, state="active", notebook="work.ipynb", files=["work.ipynb"], source="0" * 64,
            environment=str(self._project.environment), parameters=[], size=asdict(SIZE), created_by=self._owner.id, created_at=now,
        )  # fmt: skip
        session.add(self._version)
        session.flush()
        return self._version

    def _record(self, workload_id: str, role: str) -> None:
        """As a shim keeps it: the lock on `alive` says that it lives."""
        folder: Path = self._context.machine.root / workload_id / role / "1"
        folder.mkdir(parents=True)
        pid = os.getpid()
        files.write(
            str(folder / files.SPEC), {"labels": {}, "cookie": f"{workload_id}/{role}/1", "identity": {"uid": None}}
        )
        files.write(
            str(folder / files.RECORD),
            {
                "state": "running", "shim_pid": pid, "shim_start": tree.started(pid), "pid": pid, "pid_start": tree.started(pid),
                "started_at": files.now(), "ended_at": None, "exit_code": None, "signal": None, "out_of_memory": False,
                "message": None, "cgroups": [], "enforced": [],
            },
        )  # fmt: skip
        shim = os.open(folder / files.ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(shim, fcntl.LOCK_EX)
        self._shims.append(shim)
