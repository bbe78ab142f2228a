"""From a card to rows: a workload that runs is known again, in the caller's write transaction.

Ids stay as they were. What the store has already is left as it is, but for what a running workload needs to go on: its tokens,
its ports and credentials, and its reservation, which is written whatever the limits say: it is held, so it counts.
"""

from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import Table as SqlTable
from sqlalchemy import UniqueConstraint, func, inspect, select
from sqlalchemy.orm import Session

from moorage.wire import Phase, WorkloadKind
from moorage_images import environments
from moorage_service.clusters import scaling
from moorage_service.context import Context
from moorage_service.ledger import admission
from moorage_service.ledger.limits import standings
from moorage_service.ledger.resources import in_words
from moorage_service.recovery import cards
from moorage_service.recovery.rows import to_values
from moorage_service.store.tables import (
    ClusterRow,
    EnvironmentRow,
    JobVersionRow,
    ProjectRow,
    ReservationRow,
    Table,
    TokenRow,
    UserRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Observation

Rows = dict[type[Table], list[dict[str, Any]]]
LONGEST = {"slug": 30, "name": 100, "hub_name": 255}


class BadCardError(Exception):
    """A card can't be read: it is damaged, or of another version. The text says what is wrong."""


def parse(content: dict[str, Any]) -> Rows:
    """Raises BadCardError."""
    try:
        given = content["rows"]
        return {model: [to_values(model, row) for row in given[model.__tablename__]] for model in cards.MODELS}
    except (KeyError, TypeError, ValueError) as error:
        raise BadCardError(f"its card can't be read ({type(error).__name__}: {error})") from error


def adopt(session: Session, context: Context, workload_id: str, rows: Rows, observed: list[Observation]) -> str:
    """Writes what is missing and returns what was done, in a sentence for the owner and the admin."""
    _environments(session, context, rows)
    for model in cards.MODELS:
        for values in rows[model]:
            if _find(session, model, values) is None:
                session.add(model(**_with_room(session, model, values)))
                session.flush()
    workload = session.get(WorkloadRow, workload_id)
    if workload is None:
        raise BadCardError("its card is another workload's")
    _refresh(session, rows, workload_id)
    running = [each for each in observed if not each.gone]
    if workload.ended_at is None and running:
        _go_on(session, workload, running, context.clock())
    return _in_words(session, context, workload, bool(running))


def _find(session: Session, model: type[Table], values: dict[str, Any]) -> Table | None:
    key = tuple(values[column.name] for column in inspect(model).primary_key)
    return session.get(model, key)


def _environments(session: Session, context: Context, rows: Rows) -> None:
    """Their folders say what they hold."""
    digests = {row["environment"] for row in (*rows[ProjectRow], *rows[WorkloadRow]) if row.get("environment")}
    for digest in digests:
        record = environments.read(context.settings.environments, digest)
        if record is not None and session.get(EnvironmentRow, digest) is None:
            session.add(
                EnvironmentRow(
                    digest=record.digest, python=record.python, packages=record.packages, lock=record.lock,
                    created_at=datetime.fromisoformat(record.created_at),
                )
            )  # fmt: skip
    session.flush()


def _with_room(session: Session, model: type[Table], values: dict[str, Any]) -> dict[str, Any]:
    """The values, changed where somebody else has meanwhile what only one may have. Ids never change.

    Raises BadCardError for a uid or ports, which the running processes have, whoever else was given them.
    """
    values = dict(values)
    for columns in _unique(model):
        if any(values.get(name) is None for name in columns):
            continue
        taken = select(model).where(*(getattr(model, name) == values[name] for name in columns))
        if session.scalar(taken.limit(1)) is None:
            continue
        match columns[-1]:
            case "hub_name" | "slug" | "name" as name:
                own = "-" + str(values["id"]).rpartition("-")[2]
                values[name] = values[name][: LONGEST[name] - len(own)] + own
            case "number":
                of_job = select(func.max(JobVersionRow.number)).where(JobVersionRow.job_id == values["job_id"])
                values["number"] = (session.scalar(of_job) or 0) + 1
            case "scheduled_for":
                values["scheduled_for"] = None
            case name:
                raise BadCardError(f"its {name} {values[name]} has been given to another meanwhile")
    return values


def _unique(model: type[Table]) -> list[list[str]]:
    """The sets of columns of which no two rows may have the same."""
    table = inspect(model).local_table
    assert isinstance(table, SqlTable)
    several = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
    return [[column.name for column in each.columns] for each in several]


def _refresh(session: Session, rows: Rows, workload_id: str) -> None:
    """What a running workload needs, where the store knows less of it than its card: a copy may be older than its start."""
    card = next(row for row in rows[WorkloadRow] if row["id"] == workload_id)
    workload = session.get_one(WorkloadRow, workload_id)
    workload.generation = max(workload.generation, card["generation"])
    workload.details = {**card["details"], **workload.details}
    reservation = session.get(ReservationRow, workload_id)
    kept = next((row for row in rows[ReservationRow] if row["workload_id"] == workload_id), None)
    if reservation is not None and kept is not None and reservation.released_at is None:
        reservation.gpus = reservation.gpus or kept["gpus"]
    cluster = session.get(ClusterRow, workload_id)
    for row in rows[ClusterRow]:
        if cluster is not None and row["workload_id"] == workload_id:
            if cluster.port_block is None:
                cluster.port_block = _with_room(session, ClusterRow, row)["port_block"]
            cluster.sealed = row["sealed"] or cluster.sealed
            cluster.scale = {**row["scale"], **cluster.scale}
    for row in rows[TokenRow]:
        if row["workload_id"] == workload_id and session.get(TokenRow, row["hash"]) is None:
            session.add(TokenRow(**row))
    session.flush()


def _go_on(session: Session, workload: WorkloadRow, running: list[Observation], now: datetime) -> None:
    """Something of it runs: it holds what it holds, and is in the phase that the next word of it will confirm."""
    admission.bind(session, workload.id)
    if workload.target != "running" or workload.ready_at is not None:
        return
    workload.started_at = now  # it did not wait for a start while nobody knew of it
    if workload.kind == WorkloadKind.NOTEBOOK.value:
        owner = session.get_one(UserRow, workload.owner_id)
        workload.details = {"url": f"/user/{quote(owner.hub_name)}/{workload.name}/", **workload.details}
        lifecycle.enter(session, workload, Phase.READY, now=now)
    elif workload.kind == WorkloadKind.CLUSTER.value:
        reason = "It is ready again once its agent reports."
        lifecycle.enter(session, workload, Phase.STARTING, now=now, code="cluster.found", reason=reason)
        _find_workers(session, workload.id, running)


def _find_workers(session: Session, cluster_id: str, running: list[Observation]) -> None:
    row = session.get_one(ClusterRow, cluster_id)
    roles = [each.role for each in running]
    fleet = scaling.found(scaling.Fleet.from_store(row.target_workers, row.scale), roles)
    agents = [int(role.partition("-")[2] or 1) for role in roles if role.partition("-")[0] == "agent"]
    agent = {"agent": max(agents)} if agents else {}
    row.target_workers, row.scale = fleet.target, {**row.scale, **fleet.to_store(), **agent}


def _in_words(session: Session, context: Context, workload: WorkloadRow, runs: bool) -> str:
    reservation = session.get(ReservationRow, workload.id)
    owner = session.get_one(UserRow, workload.owner_id)
    what = f"The {workload.kind} {workload.name} of {owner.hub_name}"
    words = f"{what} {'runs' if runs else 'ran'} and was not in the store: it is known again"
    if reservation is None or not runs:
        return f"{words}."
    holds = ", ".join(in_words(name, units) for name, units in sorted(reservation.amounts.items()))
    over = _over(session, context, workload)
    more = f" More is held now than the limit allows that {over}; nothing is ended for it." if over else ""
    return f"{words} and holds {holds}.{more}"


def _over(session: Session, context: Context, workload: WorkloadRow) -> str | None:
    now = context.clock()
    owner = admission.owner_of(session, workload.owner_id, workload.project_id)
    rules, held = admission.rules(session, context.capacity), admission.holdings(session, now=now)
    for each in standings(rules, owner, held, now):
        if each.rule.window_s is None and each.used > each.rule.amount:
            return each.rule.words
    return None
