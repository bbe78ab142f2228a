"""The `moorage` command: everything that the pages do, in a terminal."""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Annotated

import typer

from moorage import __version__
from moorage.cli import administration, builds, clusters, jobs, me, notebooks, projects, runs, use, workloads
from moorage.cli.session import Session, enter, session
from moorage.errors import MoorageError

app = typer.Typer(
    name="moorage",
    help="Notebooks, clusters, jobs and limits of Moorage. In a notebook's terminal it knows the service and the project.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (me, use, projects, builds, notebooks, clusters, jobs, runs, workloads, administration):
    part.register(app)
for plug in sorted(entry_points(group="moorage.commands"), key=lambda plug: plug.name):
    plug.load()(app)  # what is installed beside the client, such as `moorage admin` of the service


def _print_version(wanted: bool) -> None:
    if wanted:
        session().say(__version__)
        raise typer.Exit


@app.callback()
def root(
    url: Annotated[
        str | None, typer.Option(help="Address of the service; else MOORAGE_API_URL.", show_default=False)
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Your token; else MOORAGE_TOKEN, which other users can't see.", show_default=False),
    ] = None,
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    session().url, session().token = url, token


def run(arguments: Sequence[str], new: Session | None = None) -> int:
    """Carry out one command line; the exit code: 0 done, 1 refused or failed, 2 not understood."""
    made = new or Session()
    enter(made)
    try:
        app(list(arguments), prog_name="moorage")
    except MoorageError as error:
        return made.fail(error)
    except BrokenPipeError:
        return 1  # the reader, such as `head`, has had enough
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def main() -> None:
    sys.exit(run(sys.argv[1:]))
