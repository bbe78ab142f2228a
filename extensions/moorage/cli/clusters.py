"""My clusters."""

from typing import Annotated

import typer

from moorage import calls, wire
from moorage.card import size_text, versions_text
from moorage.cli.choices import parse_cluster, parse_duration, parse_ending, pick
from moorage.cli.me import Project
from moorage.cli.session import Session, command, group, session
from moorage.cluster_words import ending_text, keeping_text, seconds_since, status_line
from moorage.errors import ClusterEnded
from moorage.progress import show_elapsed
from moorage.quantities import show_amount

Name = Annotated[str, typer.Argument(help="Its name or id.")]


def register(app: typer.Typer) -> None:
    clusters = group(app, "cluster", "My Ray and Dask clusters.")
    command(clusters, "options")(options)
    command(clusters, "create")(create)
    command(clusters, "list")(list_clusters)
    command(clusters, "show")(show)
    command(clusters, "keep")(keep)
    command(clusters, "stop")(stop)
    command(clusters, "attach")(attach)
    command(clusters, "log")(log)


def options(project: Project = None) -> None:
    """Engines, sizes, and what is left for me."""
    now = session()
    found = now.send(calls.cluster_options(now.project(project)))
    now.result(found, lambda: _show_options(now, found))


def _show_options(now: Session, found: wire.ClusterOptions) -> None:
    now.facts(
        [
            *((one.engine, "available" if one.available else one.why_not) for one in found.engines),
            ("Workers", f"at most {found.max_workers}, each at most {size_text(found.max_worker)}"),
            ("Head", size_text(found.head)),
            ("GPU types", ", ".join(found.gpu_types)),
            *(
                (
                    f"{one.resource} left",
                    f"{show_amount(one.resource, max(0.0, one.left))} of {show_amount(one.resource, one.amount)} ({one.rule})",
                )
                for one in found.remaining
            ),
        ]
    )


def create(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="engine:least-most:cpu:memory[:gpus[:type]], as ray:1-2:1:2GiB")
    ],
    name: Annotated[str | None, typer.Option(help="Else one is made from the engine.")] = None,
    project: Project = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is ready.")] = False,
    on_notebook_end: Annotated[
        str | None, typer.Option(help="stop or keep. Else stop when created from a notebook, and keep from elsewhere.")
    ] = None,
) -> None:
    """Create a cluster."""
    now = session()
    request = wire.ClusterRequest(
        project=now.project(project), name=name, spec=parse_cluster(spec), on_notebook_end=parse_ending(on_notebook_end)
    )
    made = now.send(calls.create_cluster(request))
    if wait:
        made = follow(now, made)
    now.result(made, lambda: now.say(f"{status_line(made)} (id {made.id})"))


def follow(now: Session, cluster: wire.Cluster) -> wire.Cluster:
    """Until it is ready; a line for each change. Raises ClusterEnded when it ends first."""
    said = ""
    while cluster.phase is not wire.Phase.READY:
        if cluster.phase.ended or cluster.phase is wire.Phase.STOPPING:
            raise ClusterEnded(f"{status_line(cluster)}. See: moorage cluster log {cluster.id}")
        if status_line(cluster) != said:
            said = status_line(cluster)
            now.hint(said)
        now.pause()
        cluster = now.send(calls.cluster(cluster.id))
    return cluster


def list_clusters(
    project: Project = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False,
) -> None:
    """My clusters, in this notebook's project if there is one."""
    now = session()
    found = now.send(calls.clusters(now.project(project), ended=ended))
    now.result(
        found,
        lambda: now.table(
            ["NAME", "ENGINE", "PHASE", "WORKERS", "EACH", "PROJECT", "AGE", "ID"],
            [
                (
                    one.name,
                    one.spec.engine,
                    one.phase,
                    f"{one.workers} of {one.spec.max_workers}",
                    size_text(one.spec.worker),
                    one.project,
                    show_elapsed(seconds_since(one.created_at)),
                    one.id,
                )
                for one in found
            ],
            empty="You have no cluster. Create one: moorage cluster create ray:1-2:1:2GiB",
        ),
    )


def _find(name: str, *, ended: bool = False) -> wire.Cluster:
    """By name or id, in any project of mine; with `ended` those that have ended too."""
    there = session().send(calls.clusters(ended=ended))
    return pick(there, name, "cluster")


def show(name: Name) -> None:
    """A cluster with its history."""
    now = session()
    found = now.send(calls.cluster(_find(name, ended=True).id))
    now.result(found, lambda: _show(now, found))


def _show(now: Session, found: wire.Cluster) -> None:
    now.facts(
        [
            ("Cluster", f"{found.name} ({found.spec.engine}), id {found.id}"),
            ("Phase", f"{found.phase}{f': {found.reason}' if found.reason else ''}"),
            ("Workers", f"{found.workers} now, {found.spec.min_workers} to {found.spec.max_workers}"),
            ("Each", size_text(found.spec.worker)),
            ("Ends", keeping_text(found) if not found.phase.ended else None),
            ("Warning", ending_text(found)),
            ("Versions", versions_text(found.versions)),
            ("Dashboard", now.around.link(found.dashboard) if not found.phase.ended else None),
        ]
    )
    for event in found.events:
        now.say(f"{event.at}  {event.message}")


def keep(
    name: Name,
    on_notebook_end: Annotated[str | None, typer.Option(help="stop or keep; keep when no option is given.")] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="So long no clock ends it, such as 8h; 0 takes that back.")
    ] = None,
) -> None:
    """Keep a cluster when its notebook ends, or for a while."""
    now = session()
    if on_notebook_end is None and duration is None:
        on_notebook_end = "keep"
    seconds = None if duration is None else 0.0 if duration == "0" else float(parse_duration(duration, "--for"))
    change = wire.ClusterChange(on_notebook_end=parse_ending(on_notebook_end), keep_for_s=seconds)
    changed = now.send(calls.change_cluster(_find(name).id, change))
    now.result(changed, lambda: now.say(f"Cluster {changed.name} {keeping_text(changed)}."))


def stop(name: Name) -> None:
    """Stop a cluster."""
    now = session()
    found = _find(name)
    now.send(calls.stop_cluster(found.id))
    now.done(f"Cluster {found.name} is stopping.", id=found.id)


def attach(
    name: Name,
    credentials: Annotated[
        bool, typer.Option("--credentials", help="Also its token or keys. Keep them to yourself.")
    ] = False,
) -> None:
    """How to connect to a cluster. In a notebook, moorage.attach() does it."""
    now = session()
    found = now.send(calls.attach_cluster(_find(name).id))
    facts: dict[str, object] = {
        "engine": found.engine,
        "address": found.address,
        "client_address": found.client_address,
        "versions": found.versions,
    }
    if credentials:
        facts |= {"token": found.token, "tls_ca": found.tls_ca, "tls_cert": found.tls_cert, "tls_key": found.tls_key}
    shown = {key: value for key, value in facts.items() if value is not None}
    shown_texts = [(key, versions_text(found.versions) if key == "versions" else value) for key, value in shown.items()]
    now.result(shown, lambda: now.facts(shown_texts))


def log(name: Name) -> None:
    """What a cluster's processes wrote."""
    now = session()
    text = now.send(calls.cluster_log(_find(name, ended=True).id))
    now.result({"log": text}, lambda: now.say(text.rstrip("\n")))
