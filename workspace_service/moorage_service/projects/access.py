"""Who may do what in a project: viewers see, editors run and build, owners manage members."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage_service.errors import Forbidden, NotFound
from moorage_service.store.tables import MemberRow, ProjectRow, UserRow

RANK = {"viewer": 0, "editor": 1, "owner": 2}


def role_of(session: Session, user_id: str, project: ProjectRow) -> str | None:
    """The user's role: their membership, or in a project that is open to all editor, and owner for an admin."""
    member = session.get(MemberRow, (project.id, user_id))
    if member is not None:
        return member.role
    if not project.open_to_all:
        return None
    user = session.get(UserRow, user_id)
    return "owner" if user is not None and user.admin else "editor"


def find_project(
    session: Session, slug: str, *, user_id: str, admin: bool = False, at_least: str = "viewer"
) -> ProjectRow:
    """The project, if the user has at least that role. To a stranger it does not exist; admins see all."""
    project = session.scalar(select(ProjectRow).where(ProjectRow.slug == slug, ProjectRow.deleted_at.is_(None)))
    role = None if project is None else role_of(session, user_id, project)
    if project is None or (role is None and not admin):
        raise NotFound(f"There is no project {slug!r} that you are a member of.", field="project")
    if not admin and RANK[role or "viewer"] < RANK[at_least]:
        raise Forbidden(
            f"In project {slug!r} your role is {role}; this takes the role {at_least}. Ask an owner of the project."
        )
    return project


def find_to_change(session: Session, slug: str, *, user_id: str, admin: bool = False) -> ProjectRow:
    """The project, if the user may change what its members run: its packages, files and secrets.

    In a project that is open to all every user is an editor; only those whom an owner made one may put code into
    everybody's notebook.
    """
    project = find_project(session, slug, user_id=user_id, admin=admin, at_least="editor")
    member = session.get(MemberRow, (project.id, user_id)) is not None
    if project.open_to_all and not (admin or member or role_of(session, user_id, project) == "owner"):
        raise Forbidden(
            f"Project {slug!r} is open to everybody, so only its members change it. "
            "Make a project of your own: `moorage project new`, or on the projects page."
        )
    return project


def visible_projects(session: Session, *, user_id: str, admin: bool = False) -> list[ProjectRow]:
    """By slug: the user's own and the open ones; all for an admin."""
    mine = select(MemberRow.project_id).where(MemberRow.user_id == user_id)
    query = select(ProjectRow).where(ProjectRow.deleted_at.is_(None)).order_by(ProjectRow.slug)
    if not admin:
        query = query.where(ProjectRow.id.in_(mine) | ProjectRow.open_to_all)
    return list(session.scalars(query))
