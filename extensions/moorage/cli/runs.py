"""Runs of jobs: what they do, what they left."""

from pathlib import Path
from typing import Annotated

import typer

from moorage import calls, wire
from moorage.cli.me import Project
from moorage.cli.session import Session, command, group, session
from moorage.errors import InvalidInput

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id.")]


def register(app: typer.Typer) -> None:
    runs = group(app, "run", "Runs of jobs.")
    command(runs, "list")(list_runs)
    command(runs, "show")(show)
    command(runs, "log")(log)
    command(runs, "cancel")(cancel)
    command(runs, "outputs")(outputs)


def list_runs(project: Project = None) -> None:
    """Runs, newest first."""
    now = session()
    found = now.send(calls.runs(now.project(project)))
    now.result(found, lambda: show_table(now, found))


def show_table(now: Session, found: list[wire.Run]) -> None:
    now.table(
        ["ID", "JOB", "VERSION", "PHASE", "BY", "AT", "ENDED", "WHY"],
        [
            (
                one.id,
                one.name,
                one.version,
                one.phase,
                one.trigger,
                one.scheduled_for or one.created_at,
                one.ended_at,
                one.reason or one.error_value,
            )
            for one in found
        ],
        empty="There are no runs. Start one: moorage job run JOB",
    )


def show(run: RunId, follow_it: Annotated[bool, typer.Option("--follow", help="Until it has ended.")] = False) -> None:
    """A run, its cells, and how it ended."""
    now = session()
    found = now.send(calls.run(run))
    if follow_it:
        follow(now, found)
    else:
        now.result(found, lambda: _show(now, found))


def follow(now: Session, run: wire.Run) -> None:
    """Say each cell as it starts, until the run has ended; exit code 1 unless it succeeded."""
    said: set[int] = set()
    reason: str | None = None
    while True:
        run = now.send(calls.run(run.id))
        if run.reason != reason:
            reason = run.reason
            now.hint(f"{run.phase}: {reason}" if reason else str(run.phase))
        for number, cell in enumerate(run.cells, 1):  # `index` counts the notebook's cells of text, too
            if cell.index not in said and cell.state != "pending":
                said.add(cell.index)
                now.hint(f"[{number}/{len(run.cells)}] {cell.source}")
        if run.phase.ended:
            break
        now.pause()
    last = run
    now.result(last, lambda: _show_end(now, last))
    if last.phase is not wire.Phase.SUCCEEDED:
        raise typer.Exit(1)


def _show(now: Session, found: wire.Run) -> None:
    now.facts(
        [
            ("Run", f"{found.id} of {found.name}, version {found.version}"),
            ("Phase", f"{found.phase}{f': {found.reason}' if found.reason else ''}"),
            ("Started by", "its schedule" if found.trigger == "schedule" else found.owner),
            ("Due", found.scheduled_for),
            ("Ended", found.ended_at),
            ("Parameters", ", ".join(f"{name}={value!r}" for name, value in found.parameters.items())),
        ]
    )
    marks = {"completed": "done", "running": "now ", "failed": "FAIL", "pending": "    "}
    for cell in found.cells:
        now.say(f"  {marks.get(cell.state, cell.state)}  {cell.index + 1}  {cell.source}")
    _show_end(now, found)


def _show_end(now: Session, run: wire.Run) -> None:
    if run.error_name:
        where = f" in cell {run.error_cell + 1}" if run.error_cell is not None else ""
        now.say(f"Failed{where}: {run.error_name}: {run.error_value}")
        if run.traceback:
            now.say(run.traceback.rstrip("\n"))
    elif run.phase.ended:
        now.say(f"Run {run.id}: {run.phase}. {run.reason or ''}".rstrip())
    if run.outputs:
        now.say(f"Outputs: {', '.join(run.outputs)}. Get them: moorage run outputs {run.id} --to FOLDER")


def log(run: RunId) -> None:
    """What a run's processes wrote."""
    now = session()
    content = bytearray()
    while piece := now.send(calls.run_log(run, len(content))):
        content += piece
    text = content.decode("utf-8", "replace")
    now.result({"log": text}, lambda: now.say(text.rstrip("\n")))


def cancel(run: RunId) -> None:
    """Cancel a run. What it has done so far is kept."""
    now = session()
    now.send(calls.cancel_run(run))
    now.done(f"Run {run} is being cancelled.", id=run)


def outputs(
    run: RunId,
    names: Annotated[list[str] | None, typer.Argument(help="Which; else all.")] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to save them in; without it, their names are listed.")] = None,
) -> None:
    """List what a run left, or save it."""
    now = session()
    there = now.send(calls.run(run)).outputs
    for name in names or ():
        if name not in there:
            raise InvalidInput(f"Run {run} has no output {name!r}. There are: {', '.join(there) or 'none'}.")
    chosen = names or there
    if to is None:
        now.result(chosen, lambda: now.table(["NAME"], [[name] for name in chosen], empty="It has left nothing yet."))
        return
    saved = [str(_save(to, name, now.send(calls.run_output(run, name)))) for name in chosen]
    now.done(f"Saved: {', '.join(saved) or 'nothing'}", saved=saved)


def _save(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"The output {name!r} would be written outside of {folder}; it was not.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}. Choose another folder with --to.") from error
    return path
