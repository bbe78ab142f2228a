"""Projects, members, builds and secrets."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import FileResponse

from moorage.wire import Build, MemberRequest, Project, ProjectRequest, Secret, SecretRequest
from moorage_service.context import Ctx
from moorage_service.identity.callers import RequireUser
from moorage_service.identity.idempotency import IdempotencyKey, recall, remember
from moorage_service.identity.rates import Action
from moorage_service.projects import builds, manifests, operations, secrets, trail
from moorage_service.projects.access import find_project, find_to_change, visible_projects
from moorage_service.projects.archive import archive_of
from moorage_service.projects.bodies import ArchiveBody, TextBody
from moorage_service.store.records import shown
from moorage_service.store.tables import BuildRow, ProjectRow

router = APIRouter(tags=["projects"])
Slug = Annotated[str, Path(max_length=80)]
TAR = "application/x-tar"
_FILES: dict[int | str, dict[str, Any]] = {200: {"content": {TAR: {}}}, 204: {"description": "It has no files."}}


def _body(kind: str) -> dict[str, Any]:
    schema = {"type": "string"} if kind == "text/plain" else {"type": "string", "format": "binary"}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


@router.get("/projects")
def list_projects(context: Ctx, caller: RequireUser) -> list[Project]:
    """Those I am a member of, and those that are open to everybody; all for an admin."""
    with context.database.read() as session:
        rows = visible_projects(session, user_id=caller.user_id, admin=caller.admin)
        return shown(
            rows, lambda row: operations.to_wire(session, row, user_id=caller.user_id), lambda row: f"projects/{row.id}"
        )


@router.post("/projects", status_code=201)
def create_project(context: Ctx, caller: RequireUser, request: ProjectRequest, key: IdempotencyKey = None) -> Project:
    """A new project from the text of its moorage.yaml; the caller owns it, and its first build is queued."""
    return operations.create(context, request, caller, key)


@router.get("/projects/{slug}")
def get_project(context: Ctx, caller: RequireUser, slug: Slug) -> Project:
    with context.database.read() as session:
        row = find_project(session, slug, user_id=caller.user_id, admin=caller.admin)
        return operations.to_wire(session, row, user_id=caller.user_id)


@router.delete("/projects/{slug}", status_code=204)
def delete_project(context: Ctx, caller: RequireUser, slug: Slug) -> None:
    """Refused while something of it runs, or has a schedule. What ran stays in the history."""
    operations.remove(context, slug, caller)


@router.put("/projects/{slug}/manifest", status_code=204, openapi_extra=_body("text/plain"))
def put_manifest(context: Ctx, caller: RequireUser, slug: Slug, text: TextBody) -> None:
    """Replaces moorage.yaml by the text sent. Build to have its packages."""
    operations.put_manifest(context, slug, text, caller)


@router.get("/projects/{slug}/files", response_class=Response, responses=_FILES)
def get_files(context: Ctx, caller: RequireUser, slug: Slug) -> Response:
    """The files as a tar archive, as they are now; 204 when the project has none. A notebook's own token will do."""
    with context.database.read() as session:
        project = find_project(session, slug, user_id=caller.user_id, admin=caller.admin)
        path = archive_of(context.settings, project)
    if path is None:
        return Response(status_code=204)
    return FileResponse(path, media_type=TAR, filename=f"{slug}.tar", headers={"X-Content-Type-Options": "nosniff"})


@router.put("/projects/{slug}/files", status_code=204, openapi_extra=_body(TAR))
def put_files(context: Ctx, caller: RequireUser, slug: Slug, content: ArchiveBody) -> None:
    """Replaces the files by those of a tar archive. Members who open the project for the first time get them."""
    operations.put_files(context, slug, content, caller)


@router.put("/projects/{slug}/members/{user}", status_code=204)
def set_member(context: Ctx, caller: RequireUser, slug: Slug, user: str, request: MemberRequest) -> None:
    operations.set_member(context, slug, user, request.role, caller)


@router.delete("/projects/{slug}/members/{user}", status_code=204)
def remove_member(context: Ctx, caller: RequireUser, slug: Slug, user: str) -> None:
    operations.remove_member(context, slug, user, caller)


@router.post("/projects/{slug}/builds", status_code=202)
def start_build(context: Ctx, caller: RequireUser, slug: Slug, key: IdempotencyKey = None) -> Build:
    """Builds the present moorage.yaml. The current environment stays until this one succeeds."""
    context.rates.count(Action.BUILD, user_id=caller.user_id, address=caller.address)
    with context.database.begin() as session:
        project = find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")
        action = f"build.start:{project.id}"
        made = recall(session, user_id=caller.user_id, action=action, key=key)
        if made is None:
            manifests.accept(context.settings, project.manifest)
            made = builds.queue(session, project, requested_by=caller.user_id, now=context.clock()).id
            trail.note(session, caller, project, "build", now=context.clock(), after={"build": made})
            remember(session, user_id=caller.user_id, action=action, key=key, result=made, clock=context.clock)
        answer = builds.to_wire(session, session.get_one(BuildRow, made))
    context.wakeup.notify()
    return answer


@router.get("/projects/{slug}/builds")
def list_builds(context: Ctx, caller: RequireUser, slug: Slug) -> list[Build]:
    """Newest first, at most 50."""
    with context.database.read() as session:
        project = find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")
        return builds.of_project(session, project)


@router.get("/builds/{build_id}")
def get_build(context: Ctx, caller: RequireUser, build_id: str) -> Build:
    with context.database.read() as session:
        return builds.to_wire(session, builds.find(session, build_id, caller))


@router.delete("/builds/{build_id}", status_code=204)
def cancel_build(context: Ctx, caller: RequireUser, build_id: str) -> None:
    """Asks it to stop. One that has ended already: nothing."""
    with context.database.begin() as session:
        row = builds.find(session, build_id, caller)
        if row.state in builds.UNFINISHED:
            project = session.get_one(ProjectRow, row.project_id)
            before = {"build": build_id, "state": row.state}
            trail.note(session, caller, project, "build-cancel", now=context.clock(), before=before)
        builds.cancel(session, row, now=context.clock())


@router.get("/builds/{build_id}/log", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_build_log(
    context: Ctx,
    caller: RequireUser,
    build_id: str,
    offset: Annotated[int, Query(ge=0)] = 0,
    last: Annotated[int | None, Query(ge=1, le=builds.LARGEST_READ)] = None,
) -> Response:
    """The log's bytes from `offset` on, as far as it is written, or its last ones. The next offset is this one plus their number."""
    with context.database.read() as session:
        builds.find(session, build_id, caller)
    content = builds.read_log(context.settings, build_id, offset, last)
    return Response(content, media_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})


@router.get("/projects/{slug}/secrets")
def list_project_secrets(context: Ctx, caller: RequireUser, slug: Slug) -> list[Secret]:
    """Names, never values."""
    with context.database.read() as session:
        project = find_project(session, slug, user_id=caller.user_id, admin=caller.admin, at_least="editor")
        return secrets.listed(session, "project", project.id)


@router.put("/projects/{slug}/secrets/{name}", status_code=204)
def put_project_secret(context: Ctx, caller: RequireUser, slug: Slug, name: str, request: SecretRequest) -> None:
    with context.database.begin() as session:
        project = find_to_change(session, slug, user_id=caller.user_id, admin=caller.admin)
        trail.note(session, caller, project, "secret", now=context.clock(), after={"name": name[:100]})
        secrets.put(session, context.vault, "project", project.id, name, request.value, now=context.clock())


@router.delete("/projects/{slug}/secrets/{name}", status_code=204)
def remove_project_secret(context: Ctx, caller: RequireUser, slug: Slug, name: str) -> None:
    with context.database.begin() as session:
        project = find_to_change(session, slug, user_id=caller.user_id, admin=caller.admin)
        trail.note(session, caller, project, "secret-remove", now=context.clock(), before={"name": name[:100]})
        secrets.remove(session, "project", project.id, name)


@router.get("/me/secrets")
def list_my_secrets(context: Ctx, caller: RequireUser) -> list[Secret]:
    """Names, never values."""
    with context.database.read() as session:
        return secrets.listed(session, "user", caller.user_id)


@router.put("/me/secrets/{name}", status_code=204)
def put_my_secret(context: Ctx, caller: RequireUser, name: str, request: SecretRequest) -> None:
    with context.database.begin() as session:
        secrets.put(session, context.vault, "user", caller.user_id, name, request.value, now=context.clock())


@router.delete("/me/secrets/{name}", status_code=204)
def remove_my_secret(context: Ctx, caller: RequireUser, name: str) -> None:
    with context.database.begin() as session:
        secrets.remove(session, "user", caller.user_id, name)
