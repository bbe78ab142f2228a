"""Admitting a notebook for the spawner, hearing what it saw, and stopping it."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moorage.wire import Notebook, NotebookAdmission, NotebookObservation, NotebookRequest, Phase, Size, WorkloadKind
from moorage_service.context import Context
from moorage_service.errors import BadRequest, Conflict, ServiceError
from moorage_service.identity import users
from moorage_service.identity.rates import Action
from moorage_service.identity.tokens import issue_token
from moorage_service.ledger import admission
from moorage_service.ledger.resources import in_words, of_size
from moorage_service.metrics import ADMITTED
from moorage_service.notebooks.platforms.arrangement import Admitted, Platform
from moorage_service.notebooks.platforms.local import LocalPlatform
from moorage_service.projects.access import find_project
from moorage_service.recovery import cards
from moorage_service.store.locks import lock
from moorage_service.store.tables import ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_service.workloads import operations as workloads
from moorage_spawners.launch.crash_points import reach

STATES = ("starting", "ready", "failed", "gone")


def admit(context: Context, request: NotebookRequest) -> NotebookAdmission:
    """One transaction: the user, the project, the workload's row and its reservation, or none of them."""
    with context.database.begin() as session:
        now = context.clock()
        user = users.ensure_user(
            session,
            context.settings,
            name=request.user,
            admin=request.admin,
            groups=tuple(request.groups),
            clock=context.clock,
        )
        context.rates.count(Action.NOTEBOOK_START, user_id=user.id)
        project = find_project(session, request.project, user_id=user.id, admin=user.admin, at_least="editor")
        environment = _environment_of(project)
        lock(session, [f"notebook:{user.id}"])
        _refuse_many_starting(session, user, context.settings.starting_notebooks)
        _refuse_second(session, user, project)
        amounts = of_size(request.size)
        workload = lifecycle.new_workload(
            session, kind=WorkloadKind.NOTEBOOK, name=project.slug, owner_id=user.id, project_id=project.id, now=now,
            environment=environment,
            details={"size": asdict(request.size)},
        )  # fmt: skip
        reservation = admission.admit(
            session,
            context.capacity,
            workload,
            amounts,
            now=now,
            lease_s=context.settings.admission_lease_s,
            show_others=user.admin,
        )
        holds = ", ".join(in_words(name, units) for name, units in amounts.items())
        lifecycle.record(session, workload.id, "notebook.admitted", f"Admitted: it holds {holds}.", now=now)
        platform = platform_of(context)
        token = issue_token(session, workload)
        admitted = Admitted(workload=workload, user=user, project=project, token=token, gpus=list(reservation.gpus))
        arrangement = platform.arrange(session, admitted)
        session.flush()
        reach("notebook.recorded")
    reach("notebook.committed")
    answer = arrangement.admission
    try:
        platform.prepare(arrangement, user)
    except ServiceError as error:
        give_up(context, answer.workload_id, error.message)
        raise
    except Exception:
        give_up(context, answer.workload_id, "It could not be made ready; the service's log says why. Tell an admin.")
        raise
    cards.keep(context, answer.workload_id)
    ADMITTED.labels("notebook").inc()
    context.wakeup.notify()
    return answer


def platform_of(context: Context) -> Platform:
    if context.pods is None:
        return LocalPlatform(context.settings, context.vault)
    from moorage_service.notebooks.platforms.kubernetes import KubernetesPlatform  # it loads a cluster's client

    assert context.settings.kubernetes is not None
    return KubernetesPlatform(
        context.settings.kubernetes, context.pods, context.vault, context.settings.state,
        database=context.database, others_homes=context.others_homes, clock=context.clock,
    )  # fmt: skip


def give_up(context: Context, workload_id: str, reason: str) -> None:
    """An admitted notebook that can't start ends with this reason, now rather than when its lease is over."""
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, workload_id)
        if workload.target == "running":
            workload.details = {**workload.details, "hub_told": True, "failure": reason}
            lifecycle.ask_to_end(session, workload, now=context.clock(), reason=reason)
    context.wakeup.notify()


def refuse_at_once(context: Context, user_id: str, admin: bool, slug: str, size: Size) -> None:
    """Raises what admission would at this moment: the hub answers a start before its spawner asks, so a refusal comes too late.

    Nothing while an earlier notebook of the project ends: the spawner waits for it, and for what it gives back.
    """
    amounts = of_size(size)
    with context.database.read() as session:
        project = find_project(session, slug, user_id=user_id, admin=admin, at_least="editor")
        _environment_of(project)
        if _alive(session, user_id, project.id) is not None:
            return
        notebook = WorkloadRow(kind=WorkloadKind.NOTEBOOK.value, name=slug, owner_id=user_id, project_id=project.id)
        admission.check(session, context.capacity, notebook, amounts, now=context.clock(), show_others=admin)


def _environment_of(project: ProjectRow) -> str:
    if project.environment is None:
        raise Conflict(
            f"Project {project.slug!r} has no environment yet. Its build is shown on the project's page; "
            f"build it there or with `moorage project build {project.slug}`, then start again.",
            code="environment_missing",
        )
    return project.environment


def _refuse_second(session: Session, user: UserRow, project: ProjectRow) -> None:
    other = _alive(session, user.id, project.id)
    if other is None:
        return
    # The hub asks again only when its own server is gone: what is left of the old one ends first.
    raise Conflict(
        f"Your earlier notebook of project {project.slug!r} is still {other.phase}. Start again in a few seconds.",
        code="notebook_exists",
    )


def _refuse_many_starting(session: Session, user: UserRow, most: int) -> None:
    """The hub starts so many notebooks at once and no more: nobody takes all its places."""
    starting = session.scalar(
        select(func.count())
        .select_from(WorkloadRow)
        .where(
            WorkloadRow.kind == "notebook", WorkloadRow.owner_id == user.id, WorkloadRow.ended_at.is_(None),
            WorkloadRow.target == "running", WorkloadRow.phase.in_((Phase.PENDING.value, Phase.STARTING.value)),
        )
    )  # fmt: skip
    if (starting or 0) >= most:
        raise Conflict(
            f"{starting} of your notebooks are starting already, and a user may have {most} starting at once. "
            "Wait until one of them is ready, or stop it.",
            code="many_starting",
        )


def _alive(session: Session, user_id: str, project_id: str) -> WorkloadRow | None:
    return session.scalar(
        select(WorkloadRow).where(
            WorkloadRow.kind == "notebook",
            WorkloadRow.owner_id == user_id,
            WorkloadRow.project_id == project_id,
            WorkloadRow.ended_at.is_(None),
        )
    )


def wanted(session: Session, user: str, slug: str) -> Sequence[WorkloadRow]:
    """The notebooks of a user (by the hub's name) in a project that are to run: one at most, as a rule."""
    return session.scalars(
        select(WorkloadRow)
        .join(UserRow, UserRow.id == WorkloadRow.owner_id)
        .join(ProjectRow, ProjectRow.id == WorkloadRow.project_id)
        .where(
            WorkloadRow.kind == "notebook", WorkloadRow.ended_at.is_(None), WorkloadRow.target == "running",
            UserRow.hub_name == user, ProjectRow.slug == slug,
        )
    ).all()  # fmt: skip


def end_stale(context: Context, request: NotebookRequest) -> None:
    """The hub starts a server, so none of its earlier ones counts: ask what is left of it to end."""
    with context.database.begin() as session:
        rows = wanted(session, request.user, request.project)
        for row in rows:
            row.details = {**row.details, "hub_told": True}
            lifecycle.ask_to_end(
                session, row, now=context.clock(), reason="A new start of this notebook was asked for."
            )
    if rows:
        context.wakeup.notify()


def observe(context: Context, workload_id: str, observation: NotebookObservation) -> None:
    """What the spawner saw. All are only hints: the shim's record decides, at once, what is bound and what is gone."""
    if observation.state not in STATES:
        raise BadRequest(f"state: {observation.state!r} is none. Send {', '.join(STATES)}.", field="state")
    with context.database.begin() as session:
        workload = session.get(WorkloadRow, workload_id)
        if workload is None or workload.kind != "notebook" or workload.ended_at is not None:
            return
        now = context.clock()
        if observation.url is not None:
            workload.details = {**workload.details, "url": observation.url}
        if workload.target == "running":
            if observation.state == "starting" and workload.phase in (Phase.PENDING, Phase.STARTING):
                lifecycle.enter(
                    session, workload, Phase.STARTING, now=now, reason=observation.message, code="notebook.starting"
                )
            elif observation.state == "ready" and workload.phase != Phase.READY:  # else a reason would be lost
                lifecycle.enter(session, workload, Phase.READY, now=now)
            elif observation.state in ("failed", "gone"):
                reason = observation.message or (
                    "The notebook did not start." if observation.state == "failed" else "Stopped."
                )
                # It is the hub that tells us: telling it in turn could stop the server that it starts next.
                failure = {"failure": reason} if observation.state == "failed" else {}
                workload.details = {**workload.details, "hub_told": True, **failure}
                lifecycle.ask_to_end(session, workload, now=now, reason=reason)
    context.wakeup.notify()


def to_wire(session: Session, workload: WorkloadRow, *, with_events: bool = False) -> Notebook:
    return Notebook(
        **workloads.common_fields(session, workload),
        size=Size(**workload.details["size"]),
        environment=workload.environment,
        url=workload.details.get("url") if workload.phase == Phase.READY.value else None,
        events=workloads.events_of(session, workload.id) if with_events else [],
    )
