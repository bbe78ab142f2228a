"""Everything that one user can have, as rows in the store: what another user must never reach."""

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Phase, WorkloadKind
from moorage_service.context import Context
from moorage_service.identity.tokens import issue_token
from moorage_service.ledger import admission
from moorage_service.store.tables import (
    BuildRow,
    ClusterRow,
    JobRow,
    JobVersionRow,
    MemberRow,
    ProjectRow,
    RunRow,
    SecretRow,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle

GIB = 1 << 30
SIZE = {"cpu": 1.0, "memory": GIB, "gpu": 0, "gpu_type": None}


@dataclass
class World:
    """Of one user. `tokens` are those of their workloads, by kind."""

    user: str
    slug: str
    project_id: str
    build: str
    job: str
    workloads: dict[WorkloadKind, str] = field(default_factory=dict)
    tokens: dict[WorkloadKind, str] = field(default_factory=dict)

    @property
    def run(self) -> str:
        return self.workloads[WorkloadKind.RUN]

    @property
    def cluster(self) -> str:
        return self.workloads[WorkloadKind.CLUSTER]

    @property
    def notebook(self) -> str:
        return self.workloads[WorkloadKind.NOTEBOOK]


def make_world(context: Context, name: str, slug: str) -> World:
    """A project of their own with a build, a secret, a job with a version, and one live workload of each kind."""
    with context.database.begin() as session:
        now = context.clock()
        user = session.scalars(select(UserRow).where(UserRow.hub_name == name)).one()
        manifest = f"name: {slug}\npython: '3.11'\n"
        project = ProjectRow(
            slug=slug,
            name=slug,
            manifest=manifest,
            environment="sha256-0123456789abcdef",
            created_by=user.id,
            created_at=now,
        )
        session.add(project)
        session.flush()
        session.add(MemberRow(project_id=project.id, user_id=user.id, role="owner"))
        build = BuildRow(
            project_id=project.id,
            state="succeeded",
            manifest=manifest,
            requested_by=user.id,
            created_at=now,
            ended_at=now,
        )
        session.add(build)
        session.add(
            SecretRow(
                scope="project",
                scope_id=project.id,
                name="KEY",
                sealed=context.vault.seal("adas-secret-value"),
                updated_at=now,
            )
        )
        job, version = _job(session, project, user, context)
        world = World(user=name, slug=slug, project_id=project.id, build=build.id, job=job.id)
        for kind, phase in (
            (WorkloadKind.NOTEBOOK, Phase.READY),
            (WorkloadKind.RUN, Phase.RUNNING),
            (WorkloadKind.CLUSTER, Phase.READY),
        ):
            workload = _workload(session, context, kind, phase, user, project)
            world.workloads[kind] = workload.id
            world.tokens[kind] = issue_token(session, workload)
        session.add(
            RunRow(
                workload_id=world.run, job_id=job.id, version_id=version.id, trigger="manual", parameters={"alpha": 1}
            )
        )
        session.add(
            ClusterRow(
                workload_id=world.cluster, engine="ray",
                spec={"engine": "ray", "min_workers": 1, "max_workers": 1, "worker": SIZE, "head": SIZE},
            )
        )  # fmt: skip
    return world


def _job(session: Session, project: ProjectRow, user: UserRow, context: Context) -> tuple[JobRow, JobVersionRow]:
    now = context.clock()
    job = JobRow(project_id=project.id, name="nightly", run_as=user.id, created_at=now)
    session.add(job)
    session.flush()
    version = JobVersionRow(
        job_id=job.id, number=1, state="active", notebook="ray.ipynb", files=["ray.ipynb"], source="sha256-abc",
        environment="sha256-0123456789abcdef", parameters=[{"name": "alpha", "type": "int", "default": 1}], size=SIZE,
        created_by=user.id, created_at=now,
    )  # fmt: skip
    session.add(version)
    session.flush()
    return job, version


def _workload(
    session: Session, context: Context, kind: WorkloadKind, phase: Phase, user: UserRow, project: ProjectRow
) -> WorkloadRow:
    now = context.clock()
    details = (
        {"size": SIZE, "url": f"/user/{user.hub_name}/{project.slug}/"}
        if kind is WorkloadKind.NOTEBOOK
        else {"size": SIZE}
    )
    workload = lifecycle.new_workload(
        session, kind=kind, name=f"{user.hub_name}s-{kind.value}", owner_id=user.id, project_id=project.id, now=now,
        environment=project.environment, details=details,
    )  # fmt: skip
    admission.admit(session, context.capacity, workload, {"cpu": 100, "memory": 1 << 20}, now=now, lease_s=3600)
    admission.bind(session, workload.id)
    session.flush()
    lifecycle.enter(session, workload, phase, now=now)
    return workload
