"""Projects: make, build, share."""

import io
import sys
import tarfile
from pathlib import Path
from typing import Annotated

import typer

from moorage import calls, wire
from moorage.cli.choices import read_secret
from moorage.cli.me import show_secrets
from moorage.cli.session import Session, command, group, session
from moorage.errors import InvalidInput
from moorage.notebook import unpack

MANIFEST = "moorage.yaml"
_SKIPPED = frozenset(
    {".git", "__pycache__", ".ipynb_checkpoints", ".venv", "node_modules", ".mypy_cache", ".ruff_cache"}
)
_MOST_BYTES = 64 * 2**20
_BUILD_ENDS = frozenset({"succeeded", "failed", "cancelled"})

Slug = Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Its slug; else this notebook's project.")]
Folder = Annotated[Path, typer.Argument(help=f"Folder with {MANIFEST} and the project's files.")]


def register(app: typer.Typer) -> None:
    projects = group(app, "project", "Projects: an environment, files, members, secrets.")
    command(projects, "list")(list_projects)
    command(projects, "new")(new)
    command(projects, "build")(build)
    command(projects, "show")(show)
    command(projects, "delete")(delete)
    command(projects, "files")(files)
    command(projects, "members")(members)
    member = group(projects, "member", "Who may see and use a project.")
    command(member, "set")(set_member)
    command(member, "remove")(remove_member)
    secrets = group(projects, "secret", "Secrets of a project, for its members' workloads.")
    command(secrets, "list")(list_secrets)
    command(secrets, "set")(set_secret)
    command(secrets, "remove")(remove_secret)


def list_projects() -> None:
    """Projects that I am a member of."""
    now = session()
    found = now.send(calls.projects())
    now.result(
        found,
        lambda: now.table(
            ["SLUG", "NAME", "ROLE", "PYTHON", "ENVIRONMENT", "LAST BUILD"],
            [
                (
                    one.slug,
                    one.name,
                    one.role,
                    one.environment.python if one.environment else None,
                    one.environment.digest[:12] if one.environment else "not built",
                    one.build.state if one.build else None,
                )
                for one in found
            ],
            empty=f"You have no project. Make one from a folder with {MANIFEST}: moorage project new NAME FOLDER",
        ),
    )


def new(
    slug: str,
    folder: Folder = Path(),
    build_it: Annotated[bool, typer.Option("--build/--no-build", help="Build its environment at once.")] = True,
) -> None:
    """Make a project from a folder with a moorage.yaml, and build its environment."""
    now = session()
    manifest, files = read_folder(folder)
    made = now.send(calls.create_project(wire.ProjectRequest(slug=slug, manifest=manifest)))
    now.send(calls.put_files(made.slug, files))
    if build_it:
        now.hint(f"Project {made.slug} is made. Building its environment.")
        _build(now, made.slug)
    else:
        now.result(made, lambda: now.say(f"Project {made.slug} is made. Build it: moorage project build {made.slug}"))


def build(
    project: Slug = None,
    source: Annotated[
        Path | None, typer.Option("--from", help=f"Folder whose {MANIFEST} and files take the place of the project's.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Show the log until it has ended.")] = True,
) -> None:
    """Build a project's environment and follow the log. A failed build leaves the last good one in place."""
    now = session()
    slug = now.needed_project(project)
    if source is not None:
        manifest, files = read_folder(source)
        now.send(calls.put_manifest(slug, manifest))
        now.send(calls.put_files(slug, files))
    if follow:
        _build(now, slug)
    else:
        started = now.send(calls.start_build(slug))
        now.result(started, lambda: now.say(f"Build {started.id} of {slug} is {started.state}."))


def _build(now: Session, slug: str) -> None:
    """Start a build and follow it; exit code 1 when it does not succeed."""
    one = now.send(calls.start_build(slug))
    offset = 0
    while True:
        one = now.send(calls.build(one.id))
        offset = _show_log(now, one.id, offset)
        if one.state in _BUILD_ENDS:
            break
        now.pause()
    now.result(one, lambda: now.say(_build_sentence(slug, one)))
    if one.state != "succeeded":
        raise typer.Exit(1)


def _show_log(now: Session, build_id: str, offset: int) -> int:
    """Show what the log has grown by; the new offset. A character that is half written waits for its other half."""
    grown = now.send(calls.build_log(build_id, offset))
    whole = grown[: grown.rfind(b"\n") + 1]
    if whole:
        now.hint(whole.decode("utf-8", "replace").rstrip("\n"))
    return offset + len(whole)


def _build_sentence(slug: str, one: wire.Build) -> str:
    if one.state == "succeeded":
        return f"Built: {slug} now has environment {(one.digest or '')[:12]}. Restart notebooks to use it."
    return f"The build of {slug} has {one.state}: {one.error or 'see the log above'}"


def read_folder(folder: Path) -> tuple[str, bytes]:
    """A project's manifest and its files as a tar archive. Raises InvalidInput when it is no project."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InvalidInput(
            f"There is no {MANIFEST} in {folder.resolve()}. Write one, such as:\n\n"
            'name: Digits\npython: "3.11"\npackages:\n  - ray[client,default]\n  - scikit-learn\n'
        )
    try:
        manifest = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}.") from error
    return manifest, pack(folder)


def pack(folder: Path) -> bytes:
    """The folder's plain files as a tar archive, without caches, environments and links."""
    content = io.BytesIO()
    size = 0
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_symlink() or not path.is_file() or _SKIPPED.intersection(inside.parts):
                continue
            size += path.stat().st_size
            if size > _MOST_BYTES:
                raise InvalidInput(
                    f"{folder.resolve()} holds more than {_MOST_BYTES >> 20} MiB. A project is code and small files: "
                    "keep data outside of it."
                )
            archive.add(path, arcname=inside.as_posix(), recursive=False)
    return content.getvalue()


def show(project: Slug = None) -> None:
    """A project with its environment and members."""
    now = session()
    found = now.send(calls.project(now.needed_project(project)))
    now.result(found, lambda: _show(now, found))


def _show(now: Session, found: wire.Project) -> None:
    environment, last = found.environment, found.build
    now.facts(
        [
            ("Project", f"{found.slug} ({found.name})"),
            ("My role", found.role),
            ("Python", environment.python if environment else None),
            ("Environment", environment.digest[:12] if environment else "not built: moorage project build"),
            ("Packages", len(environment.packages) if environment else None),
            ("Last build", f"{last.state}{f': {last.error}' if last.error else ''}" if last else None),
            ("Members", ", ".join(f"{one.user} ({one.role})" for one in found.members)),
        ]
    )
    now.say("")
    now.say(found.manifest.rstrip())


def files(
    project: Slug = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to be made for them; named after the project if left out.")
    ] = None,
) -> None:
    """Get a project's files, as everybody gets them who opens it for the first time."""
    now = session()
    slug = now.needed_project(project)
    folder = to or Path(slug)
    if folder.exists():
        raise InvalidInput(f"{folder} is there already; name another folder with --to.", field="to")
    content = now.send(calls.project_files(slug))
    try:
        unpack.unpack(str(folder), io.BytesIO(content))
    except unpack.FAILURES as error:
        raise InvalidInput(f"The files can't be written to {folder} ({unpack.words(error)}).", field="to") from error
    now.say(f"The files of {slug} are in {folder}.")


def delete(project: str, yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False) -> None:
    """Delete a project."""
    now = session()
    if not yes and not typer.confirm(f"Delete project {project}, with its builds, jobs and secrets?", err=True):
        raise typer.Exit(1)
    now.send(calls.delete_project(project))
    now.done(f"Project {project} is deleted.", project=project)


def members(project: Slug = None) -> None:
    """Members with their roles."""
    now = session()
    found = now.send(calls.project(now.needed_project(project))).members
    now.result(found, lambda: now.table(["USER", "ROLE"], [(one.user, one.role) for one in found], empty="No members."))


def set_member(project: str, user: str, role: Annotated[str, typer.Argument(help="viewer, editor or owner.")]) -> None:
    """Make a user a member, or change their role."""
    if role not in ("viewer", "editor", "owner"):
        raise InvalidInput(f"role {role!r} is unknown; write viewer, editor or owner.", field="role")
    now = session()
    now.send(calls.set_member(project, user, role))
    now.done(f"{user} is {role} of {project}.", user=user, role=role)


def remove_member(project: str, user: str) -> None:
    """Take a member out. What runs of theirs goes on."""
    now = session()
    now.send(calls.remove_member(project, user))
    now.done(f"{user} is no member of {project} any more.", user=user)


def list_secrets(project: Slug = None) -> None:
    """Names of a project's secrets."""
    now = session()
    slug = now.needed_project(project)
    found = now.send(calls.project_secrets(slug))
    now.result(found, lambda: show_secrets(found, f"moorage project secret set {slug} NAME"))


def set_secret(project: str, name: str) -> None:
    """Set a project's secret. Its value is typed unseen, or read from standard input."""
    now = session()
    now.send(calls.set_project_secret(project, name, read_secret(name, ask=sys.stdin.isatty())))
    now.done(f"Secret {name} of {project} is set. What starts from now on may use it.", name=name)


def remove_secret(project: str, name: str) -> None:
    """Remove a project's secret."""
    now = session()
    now.send(calls.remove_project_secret(project, name))
    now.done(f"Secret {name} of {project} is removed.", name=name)
