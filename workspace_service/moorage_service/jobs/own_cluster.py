"""A run's own cluster: checked at promotion, made with the run's admission, asked to end with the run's end."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from moorage.wire import ClusterSpec, Phase
from moorage.wire.clusters import EngineName
from moorage_service.clusters import operations as clusters
from moorage_service.clusters import specs
from moorage_service.context import Context
from moorage_service.errors import BadRequest, Conflict
from moorage_service.projects.manifests import cluster_defaults
from moorage_service.settings import Settings
from moorage_service.store.tables import ProjectRow, WorkloadRow
from moorage_service.workloads import lifecycle


@dataclass(frozen=True)
class ClusterState:
    """`ready`: the run may start. `failed`: a sentence; the cluster will not become ready."""

    ready: bool
    failed: str | None = None


def check(session: Session, context: Context, environment: str, spec: ClusterSpec | None) -> None:
    """Raises BadRequest or Conflict, its field below `cluster`, when no run could ever get such a cluster."""
    if spec is None:
        return
    try:
        clusters.check(session, context, spec, environment)
    except (BadRequest, Conflict) as error:
        raise type(error)(f"cluster: {error.message}", code=error.code, field=f"cluster.{error.field}") from error


def default(settings: Settings, project: ProjectRow, engine: EngineName | None) -> ClusterSpec | None:
    """What a notebook that attaches to a cluster of this engine gets when nothing was asked for."""
    if engine is None:
        return None
    fallback = ClusterSpec(engine=engine, min_workers=1, max_workers=2, worker=specs.DEFAULT_WORKER)
    return cluster_defaults(settings, project).get(engine, fallback)


def create(context: Context, session: Session, run: WorkloadRow, spec: ClusterSpec) -> str:
    """Makes and admits the run's cluster in the caller's transaction, and returns its id. Raises LimitRefused."""
    project = session.get_one(ProjectRow, run.project_id)
    cluster = clusters.create_cluster(session, context, run.owner_id, project, spec, parent=run)
    return cluster.id


def state(session: Session, cluster_id: str | None) -> ClusterState:
    """What the run may do as far as its cluster goes. A run without a cluster may start."""
    if cluster_id is None:
        return ClusterState(ready=True)
    cluster = session.get(WorkloadRow, cluster_id)
    if cluster is None:
        return ClusterState(ready=False, failed="Its cluster is not known any more. Start the run again.")
    if cluster.ended_at is not None or cluster.target == "gone":
        why = cluster.reason or f"it is {cluster.phase}"
        return ClusterState(ready=False, failed=f"Its cluster did not become ready: {why}")
    return ClusterState(ready=cluster.phase == Phase.READY.value)


def ask_to_end(session: Session, cluster_id: str | None, *, now: datetime) -> None:
    """The run has ended, so its cluster goes. No cluster, or one that goes already: nothing."""
    cluster = None if cluster_id is None else session.get(WorkloadRow, cluster_id)
    if cluster is not None:
        lifecycle.ask_to_end(session, cluster, now=now, reason="The run that it served has ended.")
