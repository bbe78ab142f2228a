"""Who may do what in a project: viewers see, editors run and build, owners manage members."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage_service.errors import Forbidden, NotFound
from moorage_service.store.tables import MemberRow, ProjectRow

RANK = {"viewer": 0, "editor": 1, "owner": 2}


def role_of(session: Session, user_id: str, project: ProjectRow) -> str | None:
    """The user's role: their membership, or editor in a project that is open to all."""
    member = session.get(MemberRow, (project.id, user_id))
    if member is not None:
        return member.role
    return "editor" if project.open_to_all else None


def find_project(
    session: Session, slug: str, *, user_id: str, admin: bool = False, at_least: str = "viewer"
) -> ProjectRow:
    """The project, if the user has at least that role. To a stranger it does not exist; admins see all."""
    project = session.scalar(select(ProjectRow).where(ProjectRow.slug == slug))
    role = None if project is None else role_of(session, user_id, project)
    if project is None or (role is None and not admin):
        raise NotFound(f"There is no project {slug!r} that you are a member of.", field="project")
    if not admin and RANK[role or "viewer"] < RANK[at_least]:
        raise Forbidden(
            f"In project {slug!r} you are a {role}; this takes the role {at_least}. Ask an owner of the project."
        )
    return project


def visible_projects(session: Session, *, user_id: str, admin: bool = False) -> list[ProjectRow]:
    """By slug: the user's own and the open ones; all for an admin."""
    mine = select(MemberRow.project_id).where(MemberRow.user_id == user_id)
    query = select(ProjectRow).order_by(ProjectRow.slug)
    if not admin:
        query = query.where(ProjectRow.id.in_(mine) | ProjectRow.open_to_all)
    return list(session.scalars(query))
