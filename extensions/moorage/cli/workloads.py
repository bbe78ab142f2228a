"""Any workload: list, history, stop."""

from typing import Annotated

import typer

from moorage import calls
from moorage.cli.administration import Why
from moorage.cli.choices import pick
from moorage.cli.me import holds
from moorage.cli.session import command, group, session
from moorage.errors import NotFound

Workload = Annotated[
    str, typer.Argument(metavar="WORKLOAD", help="Its name or id; of another user (for admins) its id.")
]


def register(app: typer.Typer) -> None:
    workloads = group(app, "workload", "Notebooks, clusters and runs: anything that holds resources.")
    command(workloads, "list")(list_workloads)
    command(workloads, "events")(events)
    command(workloads, "stop")(stop)


def list_workloads(ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False) -> None:
    """My workloads, newest first."""
    now = session()
    found = now.send(calls.workloads(ended=ended))
    now.result(
        found,
        lambda: now.table(
            ["NAME", "KIND", "PROJECT", "PHASE", "HOLDS", "ID"],
            [(one.name, one.kind, one.project, one.phase, holds(one), one.id) for one in found],
            empty="Nothing of yours is running.",
        ),
    )


def find(wanted: str) -> str:
    """The id of a workload of mine by its name; anything else is taken for an id, which the service checks."""
    there = session().send(calls.workloads(ended=True))
    try:
        return pick(there, wanted, "workload").id
    except NotFound:
        return wanted


def events(workload: Workload) -> None:
    """What happened to a workload, oldest first."""
    now = session()
    found = now.send(calls.workload_events(find(workload)))
    now.result(
        found,
        lambda: now.table(
            ["AT", "WHAT", "BY"], [(one.at, one.message, one.actor) for one in found], empty="Nothing yet."
        ),
    )


def stop(workload: Workload, why: Why = None) -> None:
    """Stop a workload."""
    now = session()
    found = find(workload)
    now.send(calls.stop_workload(found, why))
    now.done(f"{workload} is stopping.", id=found)
