"""Use over time: what was held, by whom and when."""

from datetime import datetime
from typing import Annotated

import typer

from moorage import calls, wire
from moorage.cli.session import command, session

_LEVELS = "▁▂▃▄▅▆▇█"


def register(app: typer.Typer) -> None:
    command(app, "use")(use)


def use(
    resource: Annotated[str, typer.Option("--resource", "-r", help="cpu, memory, gpu, gpu:TYPE, notebooks, clusters or runs.")] = "cpu",
    days: Annotated[int, typer.Option("--days", "-d", help="How far back, up to 92.")] = 7,
    by: Annotated[str | None, typer.Option("--by", help="project or kind; with --everyone also user.")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="Of all users (for admins).")] = False,
    timezone: Annotated[str, typer.Option("--timezone", help="In which hours and days begin.")] = "UTC",
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
) -> None:  # fmt: skip
    """What I held over time: core-hours, GiB-hours, GPU-hours; for admins, what everybody held."""
    now = session()
    ask, grouped = (calls.use, by or "user") if everyone else (calls.my_use, by or "project")
    asked = ask(resource, grouped, days, timezone)
    if csv:
        return now.sheet(asked)
    found = now.send(asked)
    return now.result(found, lambda: _show(found))


def _show(found: wire.Use) -> None:
    now = session()
    since = datetime.fromisoformat(found.edges[0]) if found.edges else None
    now.table(
        [found.by.upper(), found.unit.upper(), "SHARE", f"SINCE {since:%Y-%m-%d %H:%M} UTC" if since else "SINCE"],
        [(one.name, f"{one.total:.2f}", f"{one.total / found.total:.0%}", _bars(one.amounts)) for one in found.lines],
        empty=f"No {found.resource} was held in this time.",
    )
    if found.lines:
        now.say(f"Together {found.total:.2f} {found.unit}.")


def _bars(amounts: list[float]) -> str:
    """One character for each bucket; a space where nothing was held."""
    most = max(amounts, default=0.0)
    return "".join(" " if one <= 0 else _LEVELS[round((len(_LEVELS) - 1) * one / most)] for one in amounts)
