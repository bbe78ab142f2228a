"""Projects: the list, one with its environment, builds, members, secrets and jobs, and a new one."""

from typing import Annotated, cast

from fastapi import APIRouter, Form, Request, Response

from moorage.wire import Build, MemberRequest, Project, ProjectRequest, SecretRequest
from moorage.wire.people import Role
from moorage_service.context import Context, Ctx
from moorage_service.errors import BadRequest, ServiceError
from moorage_service.identity.callers import Caller
from moorage_service.jobs import api as jobs
from moorage_service.portal import render
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.projects import api as projects
from moorage_service.projects import manifests
from moorage_service.settings import PREFIX

router = APIRouter(prefix="/projects", include_in_schema=False, route_class=PageRoute)

_ROLES = ("viewer", "editor", "owner")
_LONGEST_LOG = 200_000  # bytes of a build's log on the page: its end
_EXAMPLE = """\
name: My project
python: "{python}"
packages:
  - ray[client,default]
  - scikit-learn
  - pandas
"""


@router.get("")
def list_all(request: Request, context: Ctx, caller: PageUser) -> Response:
    return render.page(
        request, caller, "projects.html", live=4, projects=projects.list_projects(context, caller),
        secrets=projects.list_my_secrets(context, caller),
    )  # fmt: skip


@router.get("/new")
def new(request: Request, context: Ctx, caller: PageUser) -> Response:
    return _new_page(request, context, caller, slug="", manifest="", problem=None)


@router.post("/new")
def create(
    request: Request,
    context: Ctx,
    caller: PageUser,
    slug: Annotated[str, Form()] = "",
    manifest: Annotated[str, Form()] = "",
) -> Response:
    try:
        made = projects.create_project(context, caller, ProjectRequest(slug=slug.strip(), manifest=_text(manifest)))
    except ServiceError as error:
        return _new_page(request, context, caller, slug=slug, manifest=manifest, problem=error)
    return render.go(
        f"{PREFIX}/projects/{made.slug}", good=f"Project {made.slug} is made, and its environment is being built."
    )


def _new_page(
    request: Request, context: Context, caller: Caller, *, slug: str, manifest: str, problem: ServiceError | None
) -> Response:
    pythons = list(manifests.pythons(context.settings))
    return render.page(
        request, caller, "project_new.html", status=problem.status if problem else 200, slug=slug, pythons=pythons,
        manifest=manifest or _EXAMPLE.format(python=pythons[0]), problem=problem.message if problem else None,
    )  # fmt: skip


@router.get("/{slug}")
def show(request: Request, context: Ctx, caller: PageUser, slug: str, build: str | None = None) -> Response:
    project = projects.get_project(context, caller, slug)
    rights = _rights(caller, project)
    builds = projects.list_builds(context, caller, slug) if rights["may_run"] else []
    shown = next((each for each in builds if each.id == build), builds[0] if builds else None)
    building = any(each.state in ("queued", "building") for each in builds)
    return render.page(
        request, caller, "project.html", live=1 if building else 5, project=project, builds=builds, shown=shown,
        log=_log(context, caller, shown), roles=_ROLES, jobs=jobs.list_jobs(context, caller, project=slug),
        secrets=projects.list_project_secrets(context, caller, slug) if rights["may_run"] else [], **rights,
    )  # fmt: skip


@router.post("/{slug}/manifest")
def save(
    context: Ctx, caller: PageUser, slug: str, manifest: Annotated[str, Form()] = "", then: Annotated[str, Form()] = ""
) -> Response:
    projects.put_manifest(context, caller, slug, _text(manifest))
    if then != "build":
        return _back(slug, "Saved. The environment stays as it is until you build.")
    projects.start_build(context, caller, slug)
    return _back(slug, "Saved, and a build was asked for. The present environment stays until it succeeds.")


@router.post("/{slug}/build")
def start_build(context: Ctx, caller: PageUser, slug: str) -> Response:
    projects.start_build(context, caller, slug)
    return _back(slug, "A build was asked for. The present environment stays until it succeeds.")


@router.post("/{slug}/builds/{build_id}/cancel")
def cancel_build(context: Ctx, caller: PageUser, slug: str, build_id: str) -> Response:
    projects.cancel_build(context, caller, build_id)
    return _back(slug, "The build is asked to stop.")


@router.post("/{slug}/members")
def set_member(
    context: Ctx,
    caller: PageUser,
    slug: str,
    user: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "viewer",
) -> Response:
    if role not in _ROLES:
        raise BadRequest(f"role: {role[:40]!r} is no role. Take viewer, editor or owner.", field="role")
    projects.set_member(context, caller, slug, user.strip(), MemberRequest(role=cast(Role, role)))
    return _back(slug, f"{user.strip()} is {'an' if role != 'viewer' else 'a'} {role} now.")


@router.post("/{slug}/members/{user}/remove")
def remove_member(context: Ctx, caller: PageUser, slug: str, user: str) -> Response:
    projects.remove_member(context, caller, slug, user)
    if user == caller.name:
        return render.go(f"{PREFIX}/projects", good=f"You have left project {slug}.")
    return _back(slug, f"{user} is no member any more.")


@router.post("/{slug}/secrets")
def put_secret(
    context: Ctx, caller: PageUser, slug: str, name: Annotated[str, Form()] = "", value: Annotated[str, Form()] = ""
) -> Response:
    projects.put_project_secret(context, caller, slug, name.strip(), SecretRequest(value=value))
    return _back(slug, f"Secret {name.strip()} is kept. New notebooks have it, and runs that name it.")


@router.post("/{slug}/secrets/{name}/remove")
def remove_secret(context: Ctx, caller: PageUser, slug: str, name: str) -> Response:
    projects.remove_project_secret(context, caller, slug, name)
    return _back(slug, f"Secret {name} is removed.")


@router.post("/{slug}/delete")
def delete(context: Ctx, caller: PageUser, slug: str) -> Response:
    projects.delete_project(context, caller, slug)
    return render.go(f"{PREFIX}/projects", good=f"Project {slug} is deleted. What ran stays in the history.")


def _rights(caller: Caller, project: Project) -> dict[str, bool]:
    """What the page offers; whether it may be done is decided where it is done."""
    member = caller.name in [each.user for each in project.members]
    return {
        "may_run": caller.admin or project.role in ("editor", "owner"),
        # In a project that is open to all, everybody is an editor without being a member.
        "may_change": caller.admin or project.role == "owner" or (project.role == "editor" and member),
        "owns": caller.admin or project.role == "owner",
    }


def _log(context: Context, caller: Caller, build: Build | None) -> str:
    if build is None:
        return ""
    return bytes(projects.get_build_log(context, caller, build.id, last=_LONGEST_LOG).body).decode(errors="replace")


def _text(manifest: str) -> str:
    # A browser sends its lines with carriage returns.
    return manifest.replace("\r\n", "\n")


def _back(slug: str, message: str) -> Response:
    return render.go(f"{PREFIX}/projects/{slug}", good=message)


secrets_router = APIRouter(prefix="/secrets", include_in_schema=False, route_class=PageRoute)


@secrets_router.post("")
def put_my_secret(
    context: Ctx, caller: PageUser, name: Annotated[str, Form()] = "", value: Annotated[str, Form()] = ""
) -> Response:
    projects.put_my_secret(context, caller, name.strip(), SecretRequest(value=value))
    return render.go(
        f"{PREFIX}/projects", good=f"Secret {name.strip()} is kept. Your new notebooks have it, in every project."
    )


@secrets_router.post("/{name}/remove")
def remove_my_secret(context: Ctx, caller: PageUser, name: str) -> Response:
    projects.remove_my_secret(context, caller, name)
    return render.go(f"{PREFIX}/projects", good=f"Secret {name} is removed.")
