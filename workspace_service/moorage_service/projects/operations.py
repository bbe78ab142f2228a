"""Projects and their members: what routes and pages alike do."""

import re
from typing import cast

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moorage.wire import Environment, Member, Project, ProjectRequest
from moorage.wire.people import Role
from moorage_service.clock import to_text
from moorage_service.context import Context
from moorage_service.errors import BadRequest, Conflict, NotFound
from moorage_service.identity.callers import Caller
from moorage_service.identity.idempotency import recall, remember
from moorage_service.identity.rates import Action
from moorage_service.identity.users import user_named
from moorage_service.projects import archive, builds, manifests, trail
from moorage_service.projects.access import find_project, find_to_change, role_of
from moorage_service.store.tables import (
    EnvironmentRow,
    JobRow,
    MemberRow,
    ProjectRow,
    SecretRow,
    UserRow,
    WorkloadRow,
)

_SLUG = re.compile(r"(?=.{1,30}\Z)[a-z](-?[a-z0-9])*")  # the hub's rule for server names, which it becomes
_TAKEN = ("new",)  # by pages of the portal


def to_wire(session: Session, project: ProjectRow, *, user_id: str) -> Project:
    environment = session.get(EnvironmentRow, project.environment) if project.environment else None
    latest = builds.latest(session, project)
    members = session.execute(
        select(UserRow.hub_name, MemberRow.role)
        .join(UserRow, UserRow.id == MemberRow.user_id)
        .where(MemberRow.project_id == project.id)
        .order_by(UserRow.hub_name)
    )
    return Project(
        id=project.id,
        slug=project.slug,
        name=project.name,
        role=role_of(session, user_id, project),
        environment=None if environment is None else environment_to_wire(environment),
        build=None if latest is None else builds.to_wire(session, latest),
        members=[Member(user=name, role=cast(Role, role)) for name, role in members],
        manifest=project.manifest,
    )


def environment_to_wire(row: EnvironmentRow) -> Environment:
    return Environment(digest=row.digest, python=row.python, created_at=to_text(row.created_at), packages=row.packages)


def create(context: Context, request: ProjectRequest, caller: Caller, key: str | None) -> Project:
    """A new project of the caller, with its first build queued. The same `key` again answers the same project."""
    if not _SLUG.fullmatch(request.slug):
        raise BadRequest(
            f"slug: {request.slug[:80]!r} can't be used. Take 1 to 30 lower-case letters, digits and single dashes, "
            "beginning with a letter and ending with a letter or digit.",
            field="slug",
        )
    if request.slug in _TAKEN:
        raise BadRequest(f"slug: {request.slug!r} is the address of another page. Choose another.", field="slug")
    context.rates.count(Action.BUILD, user_id=caller.user_id, address=caller.address)
    manifest = manifests.accept(context.settings, request.manifest)
    files = archive.keep(context.settings, {archive.MANIFEST: request.manifest.encode()})
    with context.database.begin() as session:
        made = recall(session, user_id=caller.user_id, action="project.create", key=key)
        project = None if made is None else session.get_one(ProjectRow, made)
        if project is None:
            project = _insert(context, session, request, manifest.name, files, caller.user_id)
            remember(
                session,
                user_id=caller.user_id,
                action="project.create",
                key=key,
                result=project.id,
                clock=context.clock,
            )
        answer = to_wire(session, project, user_id=caller.user_id)
    context.wakeup.notify()
    return answer


def _insert(
    context: Context, session: Session, request: ProjectRequest, name: str, files: str, user_id: str
) -> ProjectRow:
    taken = Conflict(f"slug: a project {request.slug!r} exists already. Choose another.", field="slug")
    if session.scalar(select(ProjectRow.id).where(ProjectRow.slug == request.slug)) is not None:
        raise taken
    now = context.clock()
    project = ProjectRow(
        slug=request.slug, name=name, manifest=request.manifest, files=files, created_by=user_id, created_at=now
    )
    session.add(project)
    try:
        session.flush()
    except IntegrityError:  # by another request at the same moment
        raise taken from None
    session.add(MemberRow(project_id=project.id, user_id=user_id, role="owner"))
    builds.queue(session, project, requested_by=user_id, now=now)
    return project


def put_manifest(context: Context, slug: str, text: str, caller: Caller) -> None:
    """Replaces moorage.yaml. The present environment stays until a build of the new text succeeds."""
    manifest = manifests.accept(context.settings, text)
    with context.database.read() as session:
        project = find_to_change(session, slug, user_id=caller.user_id, admin=caller.admin)
        kept = project.files
    files = archive.keep(context.settings, {**archive.read(context.settings, kept), archive.MANIFEST: text.encode()})
    with context.database.begin() as session:
        project = find_to_change(session, slug, user_id=caller.user_id, admin=caller.admin)
        if project.files != kept:
            raise Conflict(f"The files of project {slug!r} were changed at the same moment. Send moorage.yaml again.")
        before, after = {"manifest": project.manifest}, {"manifest": text}
        trail.note(session, caller, project, "manifest", now=context.clock(), before=before, after=after)
        project.manifest, project.name, project.files = text, manifest.name, files


def put_files(context: Context, slug: str, content: bytes, caller: Caller) -> None:
    """Replaces the files. A moorage.yaml among them becomes the project's; without one, the present one is kept."""
    files = archive.unpack(content)
    with context.database.read() as session:
        present = find_to_change(session, slug, user_id=caller.user_id, admin=caller.admin).manifest
    text = present
    if archive.MANIFEST in files:
        try:
            text = files[archive.MANIFEST].decode()
        except UnicodeDecodeError as error:
            raise BadRequest("files: moorage.yaml is not UTF-8 text. Save it as such.", field="files") from error
        manifests.accept(context.settings, text)
    files[archive.MANIFEST] = text.encode()
    digest = archive.keep(context.settings, files)
    with context.database.begin() as session:
        project = find_to_change(session, slug, user_id=caller.user_id, admin=caller.admin)
        if project.manifest != present:
            raise Conflict(f"moorage.yaml of project {slug!r} was changed at the same moment. Send the files again.")
        before, after = {"files": project.files}, {"files": digest}
        trail.note(session, caller, project, "files", now=context.clock(), before=before, after=after)
        project.files, project.manifest = digest, text
        project.name = manifests.check(context.settings, text).name


def remove(context: Context, slug: str, caller: Caller) -> None:
    """Members, secrets and name go; the history of what ran stays. Refused while something of it runs or is planned."""
    with context.database.begin() as session:
        project = find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="owner")
        live = select(WorkloadRow).where(WorkloadRow.project_id == project.id, WorkloadRow.ended_at.is_(None)).limit(1)
        running = session.scalar(live)
        if running is not None:
            raise Conflict(f"The {running.kind} {running.name!r} of project {slug!r} is still there. Stop it first.")
        planned = session.scalar(select(JobRow).where(JobRow.project_id == project.id, JobRow.archived.is_(False)))
        if planned is not None:
            raise Conflict(f"Project {slug!r} still has the job {planned.name!r}. Delete its jobs first.")
        now = context.clock()
        facts = {"name": project.name, "members": _members(session, project)}
        trail.note(session, caller, project, "remove", now=now, at_least="owner", before=facts)
        builds.cancel_all(session, project, now=now)
        session.execute(delete(MemberRow).where(MemberRow.project_id == project.id))
        session.execute(delete(SecretRow).where(SecretRow.scope == "project", SecretRow.scope_id == project.id))
        project.slug, project.open_to_all, project.deleted_at = project.id, False, now


def set_member(context: Context, slug: str, name: str, role: str, caller: Caller) -> None:
    with context.database.begin() as session:
        project = find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="owner")
        user = user_named(session, name)
        row = session.get(MemberRow, (project.id, user.id))
        before = {"user": name, "role": None if row is None else row.role}
        after = {"user": name, "role": role}
        if before != after:
            now = context.clock()
            trail.note(session, caller, project, "member", now=now, at_least="owner", before=before, after=after)
        if row is None:
            session.add(MemberRow(project_id=project.id, user_id=user.id, role=role))
            return
        if role != "owner":
            _keep_an_owner(session, project, row)
        row.role = role


def remove_member(context: Context, slug: str, name: str, caller: Caller) -> None:
    """An owner removes anybody; a member may leave."""
    with context.database.begin() as session:
        leaving = name == caller.name
        needed = "viewer" if leaving else "owner"
        project = find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least=needed)
        row = session.get(MemberRow, (project.id, user_named(session, name).id))
        if row is None:
            raise NotFound(f"{name!r} is not a member of project {slug!r}.", field="user")
        _keep_an_owner(session, project, row)
        before, after = {"user": name, "role": row.role}, {"user": name, "role": None}
        trail.note(session, caller, project, "member", now=context.clock(), at_least=needed, before=before, after=after)
        session.delete(row)


def _members(session: Session, project: ProjectRow) -> dict[str, str]:
    rows = session.execute(
        select(UserRow.hub_name, MemberRow.role)
        .join(UserRow, UserRow.id == MemberRow.user_id)
        .where(MemberRow.project_id == project.id)
        .order_by(UserRow.hub_name)
    )
    return {row.hub_name: row.role for row in rows}


def _keep_an_owner(session: Session, project: ProjectRow, leaving: MemberRow) -> None:
    others = select(MemberRow).where(
        MemberRow.project_id == project.id, MemberRow.role == "owner", MemberRow.user_id != leaving.user_id
    )
    if leaving.role == "owner" and not project.open_to_all and session.scalar(others.limit(1)) is None:
        raise Conflict("This is the project's only owner. Make another member an owner first.")
