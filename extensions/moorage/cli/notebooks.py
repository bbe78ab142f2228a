"""My notebooks."""

from typing import Annotated

import typer

from moorage import calls
from moorage.card import size_text
from moorage.cli.choices import parse_size, pick
from moorage.cli.session import command, group, session


def register(app: typer.Typer) -> None:
    notebooks = group(app, "notebook", "My notebook servers.")
    command(notebooks, "list")(list_notebooks)
    command(notebooks, "start")(start)
    command(notebooks, "stop")(stop)


def list_notebooks(ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False) -> None:
    """My notebooks, one for each project."""
    now = session()
    found = now.send(calls.notebooks(ended=ended))
    now.result(
        found,
        lambda: now.table(
            ["PROJECT", "PHASE", "SIZE", "ADDRESS", "ID"],
            [(one.project, one.phase, size_text(one.size), now.around.link(one.url), one.id) for one in found],
            empty="No notebook is running. Start one: moorage notebook start PROJECT",
        ),
    )


def start(
    project: str,
    cpu: Annotated[str, typer.Option(help="Cores.")] = "1",
    memory: Annotated[str, typer.Option(help="Such as 2GiB.")] = "2GiB",
    gpu: Annotated[int, typer.Option(help="How many.")] = 0,
    gpu_type: Annotated[str | None, typer.Option(help="Of which type.")] = None,
) -> None:
    """Start my notebook in a project. Needs a token of mine from the hub, not a notebook's."""
    now = session()
    size = parse_size(cpu, memory, gpu, gpu_type)
    running = next((one for one in now.send(calls.notebooks()) if one.project == project and one.url), None)
    if running is not None:
        return now.done(
            f"The notebook of {project} runs already, with {size_text(running.size)}: {now.around.link(running.url)}",
            project=project,
        )
    now.send(calls.start_notebook(project, size))
    now.done(f"The notebook of {project} is starting; see it with: moorage notebook list", project=project)
    return None


def stop(
    notebook: Annotated[str, typer.Argument(metavar="PROJECT", help="Its project, or its id.")],
) -> None:
    """Stop a notebook. Its files stay; clusters and jobs go on."""
    now = session()
    found = pick_by_project(notebook)
    now.send(calls.stop_notebook(found))
    now.done(f"The notebook {notebook} is stopping.", id=found)


def pick_by_project(wanted: str) -> str:
    there = session().send(calls.notebooks())
    by_project = next((one.id for one in there if one.project == wanted), None)
    return by_project or pick(there, wanted, "notebook").id
