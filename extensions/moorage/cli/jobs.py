"""Jobs: promote a notebook, schedule it, run it now."""

import subprocess
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from moorage import calls, wire
from moorage.card import size_text
from moorage.cli import runs
from moorage.cli.choices import parse_cluster, parse_duration, parse_pairs, parse_size, pick
from moorage.cli.me import Project
from moorage.cli.session import Session, command, group, session
from moorage.errors import InvalidInput
from moorage.promotion import NotANotebookError, collect, value_from_text
from moorage.wire.jobs import Missed, Overlap

Job = Annotated[str, typer.Argument(metavar="JOB", help="Its name or id.")]
Params = Annotated[list[str] | None, typer.Option("--param", help="name=value; may be given again.")]
Timezone = Annotated[str, typer.Option(help="Such as Europe/Berlin.")]
MissedOption = Annotated[str, typer.Option("--missed", help="Fires that were missed: skip, run_latest or run_all.")]
OverlapOption = Annotated[
    str, typer.Option("--overlap", help="While the last run goes on: forbid, queue, allow or replace.")
]


def register(app: typer.Typer) -> None:
    jobs = group(app, "job", "Jobs: promoted notebooks, their schedules and runs.")
    command(jobs, "promote")(promote)
    command(jobs, "list")(list_jobs)
    command(jobs, "show")(show)
    command(jobs, "run")(run)
    command(jobs, "runs")(list_runs)
    command(jobs, "schedule")(schedule)
    command(jobs, "pause")(pause)
    command(jobs, "resume")(resume)
    command(jobs, "delete")(delete)


def promote(
    notebook: Annotated[Path, typer.Argument(help="An .ipynb file.")],
    name: Annotated[str | None, typer.Option(help="Else the file's name.")] = None,
    cron: Annotated[str | None, typer.Option("--schedule", help='Five fields, such as "0 6 * * *".')] = None,
    timezone: Timezone = "UTC",
    missed: MissedOption = "run_latest",
    overlap: OverlapOption = "forbid",
    cluster: Annotated[
        str | None, typer.Option(help="Each run's own cluster: engine:least-most:cpu:memory, as ray:1-2:1:2GiB.")
    ] = None,
    cpu: Annotated[str | None, typer.Option(help="Cores of the run itself.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of the run itself, such as 2GiB.")] = None,
    param: Params = None,
    secret: Annotated[
        list[str] | None, typer.Option("--secret", help="A secret that runs may see; may be given again.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="A file or pattern beside the notebook to take along.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(help="Longest time of a run, such as 2h.")] = None,
    project: Project = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would make, and make nothing.")] = False,
) -> None:
    """Make a job of a notebook and the .py files beside it that it imports. Changed, it becomes the next version."""
    now = session()
    try:
        files = collect(notebook, include or ())
    except (NotANotebookError, FileNotFoundError) as error:
        reason = str(error)
        raise InvalidInput(reason if str(notebook) in reason else f"{notebook}: {reason}", field="notebook") from error
    if (cpu is None) != (memory is None):
        raise InvalidInput("Give both --cpu and --memory for the run's size, or neither.", field="cpu")
    base: dict[str, Any] = {
        "project": now.project(project),
        "name": name,
        "notebook": notebook.name,
        "files": files,
        "schedule": None if cron is None else make_schedule(cron, timezone, missed, overlap),
        "cluster": None if cluster is None else parse_cluster(cluster),
        "size": None if cpu is None or memory is None else parse_size(cpu, memory),
        "secrets": secret or [],
        "timeout_s": None if timeout is None else parse_duration(timeout, "timeout"),
        "git_commit": git_commit(notebook.resolve().parent),
    }
    texts = parse_pairs(param or (), "--param")
    if texts:
        base["parameters"] = typed_parameters(
            now.send(calls.inspect_job(wire.PromoteRequest(**base))).parameters, texts
        )
    request = wire.PromoteRequest(**base)
    if dry_run:
        plan = now.send(calls.inspect_job(request))
        now.result(plan, lambda: _show_plan(now, plan))
        return
    made = now.send(calls.promote(request))
    now.result(made, lambda: _show_promoted(now, made))


def typed_parameters(known: list[wire.Parameter], texts: dict[str, str]) -> dict[str, Any]:
    """Values in the types of the notebook's parameters. A name that it has not stays text: the service refuses it."""
    kinds = {one.name: one.type for one in known}
    return {name: value_from_text(kinds.get(name, "str"), text) for name, text in texts.items()}


def make_schedule(cron: str, timezone: str, missed: str, overlap: str, *, paused: bool = False) -> wire.Schedule:
    """Raises InvalidInput for an unknown policy; cron text and time zone are checked by the service."""
    for field, value, kind in (("missed", missed, Missed), ("overlap", overlap, Overlap)):
        if value not in get_args(kind):
            raise InvalidInput(f"{field} {value!r} is unknown; write {', '.join(get_args(kind))}.", field=field)
    chosen: dict[str, Any] = {"missed": missed, "overlap": overlap}
    return wire.Schedule(cron=cron, timezone=timezone, paused=paused, **chosen)


def git_commit(folder: Path) -> str | None:
    """The commit that the folder is at, with "-dirty" when it was changed since; None outside of git."""

    def ask(*arguments: str) -> str | None:
        try:
            found = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return found.stdout.strip() if found.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if ask("status", "--porcelain", "--untracked-files=no", "--", ".") else commit


def _show_plan(now: Session, plan: wire.Inspection) -> None:
    what = "a new job" if plan.new_job else "a new version" if plan.new_version else "nothing new: it is unchanged"
    now.facts(
        [
            ("Job", plan.name),
            ("Would make", what),
            ("Files", ", ".join(plan.files)),
            ("Parameters", parameters_text(plan.parameters)),
            ("Schedule", plan.schedule.words if plan.schedule else None),
            ("Next", ", ".join(plan.schedule.next) if plan.schedule else None),
            ("Note", plan.schedule.warning if plan.schedule else None),
        ]
    )


def parameters_text(parameters: list[wire.Parameter]) -> str:
    """ "trials: int = 8, name: str = 'x'"."""
    return ", ".join(f"{one.name}: {one.type} = {one.default!r}" for one in parameters)


def _show_promoted(now: Session, made: wire.Job) -> None:
    version = f" version {made.version.number}" if made.version else ""
    now.say(f"Job {made.name}{version} in {made.project}: {made.schedule_words or 'no schedule'}.")
    if made.next_fire_at:
        now.say(f"Next run: {made.next_fire_at}")
    now.say(f"Run it now: moorage job run {made.name}")


def list_jobs(project: Project = None) -> None:
    """Jobs of a project, or of all my projects."""
    now = session()
    found = now.send(calls.jobs(now.project(project)))
    now.result(
        found,
        lambda: now.table(
            ["NAME", "PROJECT", "VERSION", "SCHEDULE", "NEXT", "LAST RUN", "ID"],
            [
                (
                    one.name,
                    one.project,
                    one.version.number if one.version else None,
                    _schedule_text(one),
                    one.next_fire_at,
                    one.last_run.phase if one.last_run else None,
                    one.id,
                )
                for one in found
            ],
            empty="There are no jobs. Make one: moorage job promote NOTEBOOK.ipynb",
        ),
    )


def _schedule_text(one: wire.Job) -> str | None:
    if one.schedule is None:
        return None
    words = one.schedule_words or f"{one.schedule.cron} {one.schedule.timezone}"
    return f"{words} (paused)" if one.schedule.paused else words


def _find(name: str) -> wire.Job:
    now = session()
    return pick([*now.send(calls.jobs(now.project(None))), *now.send(calls.jobs())], name, "job")


def show(job: Job) -> None:
    """A job with its versions."""
    now = session()
    found = now.send(calls.job(_find(job).id))
    now.result(found, lambda: _show(now, found))


def _show(now: Session, found: wire.Job) -> None:
    version = found.version
    now.facts(
        [
            ("Job", f"{found.name} in {found.project}, id {found.id}"),
            ("Runs as", found.run_as),
            ("Schedule", _schedule_text(found) or "none"),
            ("Next", found.next_fire_at),
            ("Last run", f"{found.last_run.phase}, id {found.last_run.id}" if found.last_run else None),
            ("Parameters", parameters_text(version.parameters) if version else None),
            ("Size", size_text(version.size) if version else None),
            ("Cluster", _spec_text(version.cluster) if version and version.cluster else None),
            ("Secrets", ", ".join(version.secrets) if version else None),
        ]
    )
    now.say("")
    now.table(
        ["VERSION", "STATE", "NOTEBOOK", "FILES", "BY", "AT", "COMMIT"],
        [
            (
                one.number,
                one.state,
                one.notebook,
                len(one.files),
                one.created_by,
                one.created_at,
                (one.git_commit or "-")[:12],
            )
            for one in found.versions
        ],
        empty="No versions.",
    )


def _spec_text(spec: wire.ClusterSpec) -> str:
    return f"{spec.engine}, {spec.min_workers} to {spec.max_workers} workers of {size_text(spec.worker)}"


def run(
    job: Job,
    param: Params = None,
    version: Annotated[int | None, typer.Option(help="Else the active one.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it has ended.")] = False,
) -> None:
    """Run a job now."""
    now = session()
    found = now.send(calls.job(_find(job).id))
    chosen = found.version if version is None else next((one for one in found.versions if one.number == version), None)
    known = chosen.parameters if chosen else []
    values = typed_parameters(known, parse_pairs(param or (), "--param"))
    made = now.send(calls.start_run(found.id, wire.RunRequest(parameters=values, version=version)))
    if wait:
        runs.follow(now, made)
    else:
        now.result(
            made,
            lambda: now.say(
                f"Run {made.id} of {found.name} is {made.phase}. Follow it: moorage run show {made.id} --follow"
            ),
        )


def list_runs(job: Job) -> None:
    """Runs of a job, newest first."""
    now = session()
    found = now.send(calls.job_runs(_find(job).id))
    now.result(found, lambda: runs.show_table(now, found))


def schedule(
    job: Job,
    cron: Annotated[str | None, typer.Argument(metavar="[CRON]", help='Five fields, such as "0 6 * * *".')] = None,
    timezone: Timezone = "UTC",
    missed: MissedOption = "run_latest",
    overlap: OverlapOption = "forbid",
    remove: Annotated[bool, typer.Option("--remove", help="Take the schedule away.")] = False,
) -> None:
    """Set a job's schedule, or take it away."""
    now = session()
    if remove == (cron is not None):
        raise InvalidInput('Give either a schedule, such as "0 6 * * *", or --remove.', field="cron")
    found = _find(job)
    if cron is None:
        now.send(calls.remove_schedule(found.id))
        now.done(f"Job {found.name} has no schedule any more. It runs when you say so.", id=found.id)
        return
    wanted = make_schedule(cron, timezone, missed, overlap)
    preview = now.send(calls.preview_schedule(wanted))
    now.send(calls.set_schedule(found.id, wanted))
    warning = f" {preview.warning}" if preview.warning else ""
    now.done(
        f"Job {found.name}: {preview.words}. Next: {preview.next[0] if preview.next else 'never'}.{warning}",
        id=found.id,
    )


def pause(job: Job) -> None:
    """Pause a job's schedule. Runs under way go on."""
    _set_paused(job, True)


def resume(job: Job) -> None:
    """Resume a paused schedule."""
    _set_paused(job, False)


def _set_paused(name: str, paused: bool) -> None:
    now = session()
    found = _find(name)
    before = found.schedule
    if before is None:
        raise InvalidInput(f'Job {found.name} has no schedule. Set one: moorage job schedule {found.name} "0 6 * * *"')
    wanted = make_schedule(before.cron, before.timezone, before.missed, before.overlap, paused=paused)
    now.send(calls.set_schedule(found.id, wanted))
    now.done(f"The schedule of {found.name} is {'paused' if paused else 'on again'}.", id=found.id, paused=paused)


def delete(job: Job, yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False) -> None:
    """Delete a job with its schedule. Past runs keep their outputs."""
    now = session()
    found = _find(job)
    if not yes and not typer.confirm(f"Delete job {found.name} of {found.project}?", err=True):
        raise typer.Exit(1)
    now.send(calls.delete_job(found.id))
    now.done(f"Job {found.name} is deleted.", id=found.id)
