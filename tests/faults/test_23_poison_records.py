"""Fault 23: records that can't be read, such as a newer version's or a damaged one's.

Each is set aside by itself and said, in the log, a metric, `moorage admin check` and its owner's view. Every list, page and loop goes
on for all others; once it can be read again, it is taken up again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from moorage.wire import Phase, WorkloadKind
from moorage_service import quarantine
from moorage_service.admin import check as checks
from moorage_service.app import STEPS, SURVEYS
from moorage_service.context import Context
from moorage_service.jobs.clock import ScheduleClock
from moorage_service.reconciler.loop import make_reconcilers
from tests.fakes.clock import FakeClock
from tests.faults.checking import check
from tests.faults.figures import Report
from tests.faults.installation import Installation
from tests.service.world import World, make_world
from tests.waiting import eventually

Headers = dict[str, str]
API = "/api/v1"
BAD_JSON = "{not json"
LISTS = ("/workloads", "/clusters", "/notebooks", "/runs", "/jobs", "/projects", "/me/usage")
ADMIN_LISTS = ("/usage", "/users", "/limits", "/audit", "/workloads")


@dataclass(frozen=True)
class Poison:
    """One column of one record, and what is wrong with it. `key`: what it is set aside as, of a world. On SQLite: PostgreSQL
    takes no JSON that is none."""

    table: str
    column: str
    value: str
    key: Callable[[World], str]
    where: Callable[[World], str]


def workload(kind: WorkloadKind, column: str, value: str) -> Poison:
    return Poison(
        "workloads", column, value, lambda w: f"workloads/{w.workloads[kind]}", lambda w: f"id = '{w.workloads[kind]}'"
    )  # fmt: skip


def part(table: str, kind: WorkloadKind, column: str, value: str) -> Poison:
    return Poison(
        table, column, value, lambda w: f"workloads/{w.workloads[kind]}", lambda w: f"workload_id = '{w.workloads[kind]}'"
    )  # fmt: skip


NOTEBOOK, CLUSTER, RUN = WorkloadKind.NOTEBOOK, WorkloadKind.CLUSTER, WorkloadKind.RUN
POISONS = {
    "a kind of a newer version": workload(CLUSTER, "kind", "hologram"),
    "a phase of a newer version": workload(CLUSTER, "phase", "hibernated"),
    "a notebook without a size": workload(NOTEBOOK, "details", "{}"),
    "details that are no JSON": workload(NOTEBOOK, "details", BAD_JSON),
    "an engine of a newer version": part("clusters", CLUSTER, "engine", "flink"),
    "a spec of a newer version": part("clusters", CLUSTER, "spec", json.dumps({"engine": "flink", "cores": 3})),
    "a spec that is no JSON": part("clusters", CLUSTER, "spec", BAD_JSON),
    "parameters that are no JSON": part("runs", RUN, "parameters", BAD_JSON),
    "a reservation that is no JSON": part("reservations", CLUSTER, "amounts", BAD_JSON),
    "a reservation in words": part("reservations", NOTEBOOK, "amounts", json.dumps({"cpu": "much"})),
    "a schedule of a newer version": Poison(
        "jobs", "schedule", json.dumps({"moon": "full"}), lambda w: f"jobs/{w.job}", lambda w: f"id = '{w.job}'"
    ),
    "a schedule that is no JSON": Poison(
        "jobs",
        "schedule",
        BAD_JSON,
        lambda w: f"jobs/{w.job}",
        lambda w: f"id = '{w.job}'",
    ),
}


@pytest.fixture
def bobs(context: Context, people: dict[str, Headers]) -> World:
    return make_world(context, "bob", "bobs")


@pytest.fixture
def adas(context: Context, people: dict[str, Headers]) -> World:
    """Ada's records, one of which is poisoned."""
    return make_world(context, "ada", "adas")


def put(context: Context, adas: World, poison: Poison, value: str | None) -> str | None:
    """Writes the column as it is given; returns what it held."""
    with context.database.begin() as session:
        old = session.execute(
            text(f"SELECT {poison.column} FROM {poison.table} WHERE {poison.where(adas)}")
        ).scalar_one()
        session.execute(
            text(f"UPDATE {poison.table} SET {poison.column} = :v WHERE {poison.where(adas)}"), {"v": value}
        )
    return None if old is None else str(old)


@pytest.mark.parametrize("name", POISONS)
def test_one_poisoned_record_is_set_aside_and_hinders_no_other(
    context: Context, client: TestClient, adas: World, bobs: World, people: dict[str, Headers], clock: FakeClock,
    report: Report, name: str, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    poison = POISONS[name]
    before = put(context, adas, poison, poison.value)
    for headers, paths in ((people["ada"], LISTS), (people["bob"], LISTS), (people["root"], ADMIN_LISTS)):
        for path in paths:
            answer = client.get(API + path, headers=headers)
            assert answer.status_code == 200, f"{path}: {answer.text}"
    of_bob = {row["id"] for row in client.get(f"{API}/workloads", headers=people["bob"]).json()}
    assert of_bob == set(bobs.workloads.values())
    of_ada = {row["id"] for row in client.get(f"{API}/workloads", headers=people["ada"]).json()}
    assert of_ada == set(adas.workloads.values())  # the poisoned one too, as far as it can be read
    steps_go_on(context, bobs)
    quarantine.sweep(context)
    said_everywhere(context, client, adas, people, poison, caplog)
    put(context, adas, poison, before)
    quarantine.sweep(context)
    assert quarantined(context) == set()
    report(23, poison=name, set_aside=1, others_hindered=0)


def steps_go_on(context: Context, bobs: World) -> None:
    """The loops reach everybody else's workloads: none of bob's runs, so each is seen to be gone."""
    for loop in make_reconcilers(context, STEPS, SURVEYS):
        loop.run_once()
        loop.run_once()
    ScheduleClock(context).run_once()
    with context.database.read() as session:
        rows = session.execute(text("SELECT id, phase FROM workloads WHERE ended_at IS NOT NULL")).all()
    assert {bobs.notebook, bobs.run} <= {row.id for row in rows}, rows


def said_everywhere(
    context: Context,
    client: TestClient,
    adas: World,
    people: dict[str, Headers],
    poison: Poison,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = poison.key(adas)
    live = key in quarantined(context)
    if not live:  # a loop has mended it already, or has ended its workload in good order
        table, _, name = key.partition("/")
        assert table == "workloads"
        seen = client.get(f"{API}/workloads/{name}", headers=people["ada"]).json()
        assert Phase(seen["phase"]).ended, seen
        return
    assert f"{key} is set aside" in caplog.text
    assert "moorage_quarantined_records 1.0" in client.get("/metrics").text
    outcome = checks.examine(context, patience_s=0)
    assert key in {finding.subject for finding in outcome.findings if finding.invariant == "Q"}
    table, _, name = key.partition("/")
    if table == "workloads":
        seen = client.get(f"{API}/workloads/{name}", headers=people["ada"])
        assert seen.status_code == 200
        events = client.get(f"{API}/workloads/{name}/events", headers=people["ada"]).json()
        assert any(event["code"] == "record.quarantined" for event in events), events


def quarantined(context: Context) -> set[str]:
    with context.database.read() as session:
        return set(session.execute(text("SELECT key FROM quarantine")).scalars())


def test_a_service_goes_on_beside_a_poisoned_cluster_and_ends_it_when_asked(
    installation: Installation, report: Report
) -> None:
    installation.start()
    with installation.api() as http:
        bad, good = (str(http.post("/clusters", json=installation.cluster_request()).json()["id"]) for _ in range(2))
        for cluster in (bad, good):
            installation.wait(cluster, "ready")
        with installation.context() as context, context.database.begin() as session:
            session.execute(text("UPDATE workloads SET kind = 'hologram' WHERE id = :id"), {"id": bad})
        eventually(lambda: "is set aside" in installation.log, what="word of the poisoned record")
        third = str(http.post("/clusters", json=installation.cluster_request()).json()["id"])
        installation.wait(third, "ready")
        assert http.get(f"/clusters/{bad}").status_code == 404
        assert installation.workload(bad)["reason_code"] == "record.quarantined"
        for cluster in (bad, good, third):
            http.delete(f"/workloads/{cluster}").raise_for_status()
            installation.wait(cluster, "stopped")
    check(installation)
    report(23, poison="a kind of a newer version, live", set_aside=1, ended_when_asked=1, others_hindered=0)
