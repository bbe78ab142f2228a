"""Builds of projects' environments."""

from typing import Annotated

import typer

from moorage import calls
from moorage.cli.session import command, group, session

Slug = Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Its slug; else this notebook's project.")]
Build = Annotated[str, typer.Argument(metavar="BUILD", help="Its id.")]


def register(app: typer.Typer) -> None:
    builds = group(app, "build", "Builds of a project's environment. `moorage project build` begins one.")
    command(builds, "list")(list_builds)
    command(builds, "log")(log)
    command(builds, "cancel")(cancel)


def list_builds(project: Slug = None) -> None:
    """A project's builds, newest first."""
    now = session()
    found = now.send(calls.builds(now.needed_project(project)))
    now.result(
        found,
        lambda: now.table(
            ["ID", "STATE", "BY", "STARTED", "ENDED", "ERROR"],
            [(one.id, one.state, one.requested_by, one.started_at, one.ended_at, one.error) for one in found],
            empty="It was never built. Begin: moorage project build",
        ),
    )


def log(build: Build) -> None:
    """What a build wrote so far."""
    now = session()
    parts: list[bytes] = []
    while part := now.send(calls.build_log(build, sum(map(len, parts)))):
        parts.append(part)
    text = b"".join(parts).decode("utf-8", "replace")
    now.result({"log": text}, lambda: now.say(text.rstrip("\n")))


def cancel(build: Build) -> None:
    """Cancel a build that waits or runs. The last good environment stays."""
    now = session()
    now.send(calls.cancel_build(build))
    now.done(f"The build {build} is asked to end.", build=build)
