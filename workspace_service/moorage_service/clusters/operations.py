"""What can be done with clusters: by routes, by pages, by the jobs' slice. Each in one write transaction, or none."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.quantities import MOST
from moorage.wire import (
    Attach,
    Cluster,
    ClusterOptions,
    ClusterRequest,
    ClusterSpec,
    EngineOptions,
    Phase,
    Size,
    WorkloadKind,
    codec,
)
from moorage.wire.clusters import EngineName
from moorage_service.clusters import keeping, specs
from moorage_service.clusters.engines import ENGINES
from moorage_service.clusters.lifetime import Lifetime
from moorage_service.clusters.plan import Site
from moorage_service.clusters.platforms.local import LocalPlatform
from moorage_service.clusters.ports import block_ports
from moorage_service.context import Context
from moorage_service.errors import BadRequest, Conflict, Forbidden
from moorage_service.identity import idempotency
from moorage_service.identity.callers import Caller
from moorage_service.identity.rates import Action
from moorage_service.identity.tokens import issue_token
from moorage_service.ledger import admission
from moorage_service.ledger.resources import in_words
from moorage_service.metrics import ADMITTED
from moorage_service.projects.access import find_project
from moorage_service.projects.manifests import cluster_defaults
from moorage_service.settings import PREFIX, Settings
from moorage_service.store.tables import ClusterRow, EnvironmentRow, JobVersionRow, ProjectRow, RunRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_service.workloads import operations as workloads
from moorage_service.workloads.hiding import hider
from moorage_spawners.launch.crash_points import reach


def platform_of(context: Context) -> LocalPlatform:
    return LocalPlatform(context.settings, context.machine, partial(hider, context))


def head_size(settings: Settings, spec: ClusterSpec) -> Size:
    return spec.head or Size(cpu=settings.head_size.cpu, memory=settings.head_size.memory)


def create(context: Context, caller: Caller, request: ClusterRequest, *, key: str | None = None) -> str:
    """Admits a cluster for the caller and returns its id; the reconciler starts it.

    Raises NotOnThisPlatform, BadRequest, NotFound (project), Conflict (no environment, name taken), LimitRefused, TooManyRequests.
    """
    context.platform.require_clusters()
    context.rates.count(Action.CLUSTER_CREATE, user_id=caller.user_id, address=caller.address)
    with context.database.begin() as session:
        made = idempotency.recall(session, user_id=caller.user_id, action="cluster", key=key)
        if made is not None:
            return made
        project = _project(session, caller, request.project)
        workload = admit(
            session, context, owner_id=caller.user_id, project=project, environment=_environment(session, caller, project),
            spec=request.spec, name=request.name, actor=caller.name, show_others=caller.admin,
            lifetime=keeping.first(caller, request.on_notebook_end, project.id),
        )  # fmt: skip
        idempotency.remember(
            session, user_id=caller.user_id, action="cluster", key=key, result=workload.id, clock=context.clock
        )
        session.flush()
        reach("create.recorded")
    reach("create.committed")
    ADMITTED.labels("cluster").inc()
    context.wakeup.notify()
    return workload.id


def admit(
    session: Session, context: Context, *, owner_id: str, project: ProjectRow, environment: str, spec: ClusterSpec,
    name: str | None = None, parent_id: str | None = None, secret_names: list[str] | None = None, actor: str | None = None,
    show_others: bool = False, lifetime: Lifetime | None = None,
) -> WorkloadRow:  # fmt: skip
    """A cluster's rows and its reservation, in the caller's write transaction.

    `parent_id`: the run that it serves; it ends with it. `secret_names`: the secrets its processes see; None: all that a
    notebook of its owner would. Call `context.wakeup.notify()` after the commit.
    """
    context.platform.require_clusters()
    now = context.clock()
    amounts = check(session, context, spec, environment)
    name = specs.check_name(name) if name is not None else _free_name(session, owner_id, spec.engine)
    _refuse_namesake(session, owner_id, name)
    workload = lifecycle.new_workload(
        session, kind=WorkloadKind.CLUSTER, name=name, owner_id=owner_id, project_id=project.id, now=now,
        environment=environment, parent_id=parent_id, details={"secrets": secret_names, "lifetime": (lifetime or Lifetime()).to_store()},
    )  # fmt: skip
    admission.admit(
        session, context.capacity, workload, amounts, now=now, lease_s=context.settings.admission_lease_s, show_others=show_others
    )  # fmt: skip
    credentials = ENGINES[spec.engine].credentials(workload.id, ("localhost",), now)
    credentials["agent"] = issue_token(session, workload)
    session.add(
        ClusterRow(
            workload_id=workload.id,
            engine=spec.engine,
            spec=asdict(spec),
            sealed=context.vault.seal(json.dumps(credentials)),
            target_workers=spec.min_workers,
        )
    )
    holds = ", ".join(in_words(resource, units) for resource, units in amounts.items())
    lifecycle.record(
        session,
        workload.id,
        "cluster.admitted",
        f"Admitted at its largest size: it holds {holds}.",
        now=now,
        actor=actor,
    )
    return workload


def create_cluster(
    session: Session, context: Context, owner_id: str, project: ProjectRow, spec: ClusterSpec, *, parent: WorkloadRow
) -> WorkloadRow:
    """A run's own cluster, in the run's environment and with the secrets that the run may see. As `admit`."""
    assert parent.environment is not None
    run = session.get(RunRow, parent.id)
    version = None if run is None else session.get(JobVersionRow, run.version_id)
    return admit(
        session, context, owner_id=owner_id, project=project, environment=parent.environment, spec=spec, parent_id=parent.id,
        secret_names=[] if version is None else list(version.secrets),
    )  # fmt: skip


def check(session: Session, context: Context, spec: ClusterSpec, environment: str) -> dict[str, int]:
    """What the spec would hold. Raises BadRequest for a spec that can't be, Conflict when the environment lacks the engine."""
    amounts = specs.check(
        spec,
        head_size(context.settings, spec),
        max_workers=context.settings.max_workers,
        gpu_types=context.capacity.gpu_types,
    )
    missing = ENGINES[spec.engine].missing(packages_of(session, environment))
    if missing is not None:
        raise Conflict(missing, code="engine_missing", field="engine")
    return amounts


def packages_of(session: Session, environment: str | None) -> Mapping[str, str]:
    row = None if environment is None else session.get(EnvironmentRow, environment)
    return {} if row is None else {name.lower().replace("_", "-"): version for name, version in row.packages.items()}


def options(context: Context, caller: Caller, project_slug: str | None) -> ClusterOptions:
    """Bounds, defaults and what is left, for the sizing widget and the portal's form."""
    settings, capacity = context.settings, context.capacity
    with context.database.read() as session:
        project = _project(session, caller, project_slug)
        environment = _environment_or_none(session, caller, project)
        packages = packages_of(session, environment)
        now = context.clock()
        held = admission.holdings(session, now=now)
        remaining = admission.remaining(session, capacity, held, caller.user_id, project.id, now=now)
    defaults = cluster_defaults(settings, project)
    engines = []
    for name, engine in ENGINES.items():
        why_not = context.platform.no_clusters or (
            engine.missing(packages) if environment is not None else _no_environment(project)
        )
        fallback = ClusterSpec(engine=name, min_workers=1, max_workers=2, worker=specs.DEFAULT_WORKER)
        engines.append(
            EngineOptions(engine=name, available=why_not is None, why_not=why_not, default=defaults.get(name, fallback))
        )
    return ClusterOptions(
        engines=engines,
        head=Size(cpu=settings.head_size.cpu, memory=settings.head_size.memory),
        max_workers=settings.max_workers,
        max_worker=Size(
            cpu=capacity.amounts.get("cpu", MOST) / 1000,
            memory=capacity.amounts.get("memory", MOST),
            gpu=capacity.amounts.get("gpu", MOST),
        ),
        gpu_types=sorted(capacity.gpu_types),
        remaining=remaining,
    )


def spec_of(row: ClusterRow) -> ClusterSpec:
    return codec.parse(ClusterSpec, row.spec)


def site_of(context: Context, row: ClusterRow) -> Site:
    """Where the cluster is. Only for one that was given its ports."""
    assert row.port_block is not None
    engine: EngineName = spec_of(row).engine
    ports = block_ports(context.settings.port_first, row.port_block, ENGINES[engine].port_names)
    return platform_of(context).site(row.workload_id, ports)


def credentials_of(context: Context, row: ClusterRow) -> dict[str, str]:
    assert row.sealed is not None
    return dict(json.loads(context.vault.open_sealed(row.sealed)))


def attach(context: Context, caller: Caller, cluster_id: str) -> Attach:
    """Address and credentials, for a workload of the owner only: never for a page, never for an admin."""
    with context.database.read() as session:
        workload = workloads.find_own(session, caller, cluster_id, kind=WorkloadKind.CLUSTER)
        if caller.via != "workload" or workload.owner_id != caller.user_id:
            raise Forbidden(
                "A cluster's credentials are given to its owner's notebooks and runs only. Attach from a notebook: moorage.attach()."
            )
        row = session.get_one(ClusterRow, cluster_id)
        if workload.target == "gone" or workload.ready_at is None or row.port_block is None:
            raise Conflict(
                f"Cluster {workload.name!r} is {workload.phase}, so there is nothing to attach to yet. Wait until it is ready."
                if workload.target != "gone"
                else f"Cluster {workload.name!r} is {workload.phase}. Create another one.",
                code="cluster_not_ready",
            )
        versions = (row.report or {}).get("versions", {})
    keeping.follow(context, caller, cluster_id)
    return ENGINES[spec_of(row).engine].attach(site_of(context, row), credentials_of(context, row), versions)


def to_wire(session: Session, workload: WorkloadRow, *, with_events: bool = False) -> Cluster:
    row = session.get_one(ClusterRow, workload.id)
    spec = spec_of(row)
    report = row.report or {}
    ready = workload.phase == Phase.READY.value
    return Cluster(
        **workloads.common_fields(session, workload),
        spec=spec,
        environment=workload.environment,
        workers=len(report.get("workers", ())) if workload.ended_at is None else 0,
        target_workers=row.target_workers if workload.target == "running" else 0,
        versions=report.get("versions", {}),
        dashboard=dashboard_path(session, workload, spec) if ready else None,
        **keeping.fields(workload),
        events=workloads.events_of(session, workload.id) if with_events else [],
    )


def dashboard_path(session: Session, workload: WorkloadRow, spec: ClusterSpec) -> str | None:
    engine = ENGINES[spec.engine]
    if not engine.has_dashboard(packages_of(session, workload.environment)):
        return None
    return f"{PREFIX}/dashboards/{workload.id}/{engine.entry}"


def _project(session: Session, caller: Caller, slug: str | None) -> ProjectRow:
    if slug is None and caller.project_id is not None:
        slug = session.get_one(ProjectRow, caller.project_id).slug
    if slug is None:
        raise BadRequest(
            "project: say which project the cluster is for, by its slug (with `moorage`: --project SLUG).",
            field="project",
        )
    return find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")


def _environment_or_none(session: Session, caller: Caller, project: ProjectRow) -> str | None:
    """The very environment of the calling notebook, so that versions match; else the project's current one."""
    if caller.workload_id is not None and caller.project_id == project.id:
        return session.get_one(WorkloadRow, caller.workload_id).environment
    return project.environment


def _environment(session: Session, caller: Caller, project: ProjectRow) -> str:
    environment = _environment_or_none(session, caller, project)
    if environment is None:
        raise Conflict(_no_environment(project), code="environment_missing")
    return environment


def _no_environment(project: ProjectRow) -> str:
    return (
        f"Project {project.slug!r} has no environment yet. Build it on the project's page or with "
        f"`moorage project build {project.slug}`, then try again."
    )


def _live_names(session: Session, owner_id: str) -> set[str]:
    query = select(WorkloadRow.name).where(
        WorkloadRow.kind == "cluster", WorkloadRow.owner_id == owner_id, WorkloadRow.ended_at.is_(None)
    )
    return set(session.scalars(query))


def _free_name(session: Session, owner_id: str, engine: str) -> str:
    taken = _live_names(session, owner_id)
    return next(name for number in range(1, len(taken) + 2) if (name := f"{engine}-{number}") not in taken)


def _refuse_namesake(session: Session, owner_id: str, name: str) -> None:
    if name in _live_names(session, owner_id):
        raise Conflict(
            f"name: you have a cluster named {name!r} already. Stop it, attach to it, or choose another name.",
            code="name_taken",
            field="name",
        )
