"""The sizing widget in text, where no widget can be shown: what is left, what is there, and how to go on."""

from moorage import calls, errors
from moorage.card import size_text
from moorage.client import Client
from moorage.cluster_words import status_line
from moorage.environment import Surroundings
from moorage.quantities import memory_text, show_amount
from moorage.widget.arithmetic import first_form
from moorage.wire import Cluster, ClusterOptions
from moorage.wire.clusters import EngineName


def plain_text(client: Client, around: Surroundings, engine: EngineName | None, why: str) -> str:
    """Asks the service once; when it does not answer, its sentence is part of the text."""
    lines = [why, ""]
    try:
        options = client.send(calls.cluster_options(around.project))
        mine = [one for one in client.send(calls.clusters(around.project)) if not one.phase.ended]
    except errors.MoorageError as error:
        return "\n".join([*lines, error.message])
    return "\n".join(lines + options_lines(options) + clusters_lines(mine) + [example(options, engine)])


def options_lines(options: ClusterOptions) -> list[str]:
    found = [
        f"At most {options.max_workers} workers of {size_text(options.max_worker)}; head {size_text(options.head)}."
    ]
    found += [one.why_not or f"{one.engine} is not available." for one in options.engines if not one.available]
    found += [
        f"Left: {show_amount(one.resource, one.left)} of {show_amount(one.resource, one.amount)} ({one.rule})"
        for one in options.remaining
    ]
    return found


def clusters_lines(mine: list[Cluster]) -> list[str]:
    if not mine:
        return ["You have no cluster in this project.", ""]
    return ["Your clusters:", *(f"  {status_line(one)}" for one in mine), ""]


def example(options: ClusterOptions, engine: EngineName | None) -> str:
    form = first_form(options, engine)
    return (
        f'Create one:  cluster = moorage.Cluster.create("{form.engine}", workers=({form.min_workers}, '
        f'{form.max_workers}), cpu={form.cpu:g}, memory="{memory_text(form.memory)}")\n'
        "Use it:      cluster.connect()\n"
        "Later:       cluster = moorage.attach()"
    )
