"""The clocks of a cluster: its notebook's end, idleness, age; what is announced, what stops it, what keeps it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import Phase, WorkloadKind
from moorage_service.clusters.lifetime import Clocks, Ending, Lifetime, Signals, judge
from moorage_service.context import Context
from moorage_service.settings import Settings
from moorage_service.store.tables import AuditRow, ReservationRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.fakes.clock import FakeClock
from tests.service.clusters_bench import API, Clusters, open_clusters, worker
from tests.service.conftest import Headers
from tests.service.engines_bench import open_settings

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CLOCKS = Clocks(orphan_s=120, idle_s=1800, lifetime_s=86400, warn_s=600)
SIGNALS = Signals(now=NOON, created_at=NOON - timedelta(hours=1))


def ago(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


def told(life: Lifetime, signals: Signals) -> str:
    verdict = judge(life, signals, CLOCKS)
    assert verdict.stop is None
    return "" if verdict.told is None else verdict.told[1]


def test_its_notebook_s_end_is_announced_at_once_and_counts_from_then() -> None:
    signals = replace(SIGNALS, alone_since=ago(1))
    life = Lifetime(on_notebook_end="stop")
    assert told(life, signals) == (
        "Its notebook has ended. It is stopped in 2 min unless the notebook is started again or you keep the cluster."
    )
    assert judge(life, signals, CLOCKS).lifetime.ending is not None
    assert told(Lifetime(), signals) == ""


def test_nothing_ends_that_was_not_announced_for_the_whole_warning() -> None:
    late = replace(SIGNALS, alone_since=ago(5000))
    announced = judge(Lifetime(on_notebook_end="stop"), late, CLOCKS)
    assert announced.stop is None
    later = replace(late, now=NOON + timedelta(seconds=119))
    assert judge(announced.lifetime, later, CLOCKS).stop is None
    stop = judge(announced.lifetime, replace(later, now=NOON + timedelta(seconds=120)), CLOCKS).stop
    assert stop == (
        "cluster.notebook_gone",
        "Stopped with its notebook, which ended 85.3 min ago and was not started again.",
    )


def test_a_notebook_that_is_back_takes_the_announcement_back() -> None:
    held = Lifetime(on_notebook_end="stop", ending=Ending(rule="notebook", at=NOON, why="Its notebook has ended."))
    verdict = judge(held, SIGNALS, CLOCKS)
    assert (verdict.stop, verdict.lifetime.ending) == (None, None)
    assert verdict.told == ("cluster.stays", "It stays: a notebook of its owner runs.")


def test_idleness_is_announced_and_stops_it_by_the_last_value_alone() -> None:
    assert told(Lifetime(), replace(SIGNALS, idle_s=1199)) == ""
    announced = judge(Lifetime(), replace(SIGNALS, idle_s=1200), CLOCKS)
    assert announced.told is not None
    assert announced.told[1].startswith("It has had neither work nor a client for 20 min. It is stopped in 10 min")
    due = replace(SIGNALS, now=NOON + timedelta(minutes=10))
    assert judge(announced.lifetime, replace(due, idle_s=1799), CLOCKS).stop is None
    stop = judge(announced.lifetime, replace(due, idle_s=1830), CLOCKS).stop
    assert stop == (
        "cluster.idle",
        "Stopped for idleness: neither work nor a client for 30.5 min (allowed: 30 min).",
    )


def test_what_is_not_known_is_never_idle() -> None:
    held = Lifetime(ending=Ending(rule="idle", at=ago(3600), why="It has had neither work nor a client for 20 min."))
    verdict = judge(held, replace(SIGNALS, idle_s=None), CLOCKS)
    assert (verdict.stop, verdict.told, verdict.lifetime) == (None, None, held)
    assert judge(Lifetime(), replace(SIGNALS, idle_s=None), CLOCKS).told is None
    back = judge(held, replace(SIGNALS, idle_s=0), CLOCKS)
    assert back.told == ("cluster.stays", "It stays: work or a client came.")


def test_age_is_announced_and_ends_it() -> None:
    old = replace(SIGNALS, created_at=NOON - timedelta(hours=23, minutes=51))
    announced = judge(Lifetime(), old, CLOCKS)
    assert announced.told is not None
    assert "It is 23.9 h old, and clusters live for 24 h here." in announced.told[1]
    stop = judge(announced.lifetime, replace(old, now=NOON + timedelta(minutes=10)), CLOCKS).stop
    assert stop == ("cluster.too_old", "Stopped for its age: it was 24 h old (allowed: 24 h).")


def test_what_is_kept_no_clock_ends_and_it_is_warned_again() -> None:
    worst = replace(SIGNALS, alone_since=ago(9999), idle_s=9999.0, created_at=NOON - timedelta(days=9))
    kept = Lifetime(on_notebook_end="stop", keep_until=NOON + timedelta(hours=1))
    assert told(kept, worst) == ""
    near = judge(kept, replace(worst, now=NOON + timedelta(minutes=51)), CLOCKS)
    assert near.stop is None
    assert near.lifetime.ending is not None
    assert near.lifetime.ending.at >= NOON + timedelta(hours=1)


def test_clocks_of_zero_never_end_it() -> None:
    worst = replace(SIGNALS, idle_s=1e9, created_at=NOON - timedelta(days=999))
    assert judge(Lifetime(), worst, replace(CLOCKS, idle_s=0, lifetime_s=0)).told is None


def test_it_survives_the_store() -> None:
    life = Lifetime(
        on_notebook_end="stop", follows=("pr-1",), keep_until=NOON, ending=Ending(rule="idle", at=NOON, why="Idle.")
    )
    assert Lifetime.from_store({"lifetime": life.to_store()}) == life
    assert Lifetime.from_store({}) == Lifetime()


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=26500) as made:
        yield made


@pytest.fixture
def clusters(client: TestClient, context: Context, people: dict[str, Headers]) -> Iterator[Clusters]:
    assert "ada" in people
    with open_clusters(client, context) as made:
        yield made


def change(clusters: Clusters, cluster: str, expect: int = 200, headers: Headers | None = None, **wanted: Any) -> Any:
    path = f"{API}/clusters/{cluster}"
    answer = clusters.client.patch(path, json=wanted, headers=headers or clusters.notebook)
    assert answer.status_code == expect, answer.text
    return answer.json()


def end_notebook(clusters: Clusters, person: Headers) -> None:
    """Its token dies with it, so ada herself goes on."""
    context, clusters.notebook = clusters.context, person
    with context.database.begin() as session:
        row = session.scalars(
            select(WorkloadRow).where(WorkloadRow.kind == "notebook", WorkloadRow.ended_at.is_(None))
        ).one()
        lifecycle.ended(session, row, Phase.STOPPED, now=context.clock(), reason="Stopped.")


def start_notebook(context: Context) -> None:
    with context.database.begin() as session:
        old = session.scalars(select(WorkloadRow).where(WorkloadRow.kind == "notebook")).first()
        assert old is not None
        lifecycle.new_workload(
            session, kind=WorkloadKind.NOTEBOOK, name=old.name, owner_id=old.owner_id, project_id=old.project_id,
            now=context.clock(),
        )  # fmt: skip


def ready(clusters: Clusters, **fields: Any) -> str:
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1"), **fields)
    return cluster


def test_one_from_a_notebook_ends_with_it_and_one_from_elsewhere_is_kept(clusters: Clusters, ada: Headers) -> None:
    assert clusters.post()["on_notebook_end"] == "stop"
    body = {"project": "starter", "spec": {"engine": "ray", "worker": {"cpu": 1, "memory": 1 << 30}}}
    assert clusters.client.post(f"{API}/clusters", json=body, headers=ada).json()["on_notebook_end"] == "keep"
    body["on_notebook_end"] = "stop"
    assert clusters.client.post(f"{API}/clusters", json=body, headers=ada).json()["on_notebook_end"] == "stop"


def test_its_notebook_gone_it_is_warned_then_stopped_and_released_once(
    clusters: Clusters, context: Context, clock: FakeClock, ada: Headers
) -> None:
    cluster = ready(clusters)
    end_notebook(clusters, ada)
    found = clusters.step(cluster)
    assert found["stops_why"] == "Its notebook has ended."
    assert found["phase"] == "ready"
    clock.advance(119)
    clusters.report(cluster, worker("worker-1"))
    assert clusters.step(cluster)["phase"] == "ready"
    clock.advance(2)
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["reason_code"]) == ("stopped", "cluster.notebook_gone")
    assert ended["reason"].startswith("Stopped with its notebook, which ended 2 min ago")
    with context.database.read() as session:
        assert session.get_one(ReservationRow, cluster).released_at is not None


def test_a_restart_of_the_notebook_in_time_keeps_it(
    clusters: Clusters, context: Context, clock: FakeClock, ada: Headers
) -> None:
    cluster = ready(clusters)
    end_notebook(clusters, ada)
    assert clusters.step(cluster)["stops_at"] is not None
    clock.advance(60)
    start_notebook(context)
    found = clusters.step(cluster)
    assert found["stops_at"] is None
    assert "cluster.stays" in [event["code"] for event in found["events"]]
    clock.advance(600)
    assert clusters.step(cluster)["phase"] != "stopping"


def test_one_that_is_kept_outlives_its_notebook_and_stays_charged(
    clusters: Clusters, context: Context, clock: FakeClock, ada: Headers
) -> None:
    cluster = ready(clusters)
    end_notebook(clusters, ada)
    clusters.step(cluster)
    kept = change(clusters, cluster, on_notebook_end="keep")
    assert (kept["on_notebook_end"], kept["stops_at"]) == ("keep", None)
    assert kept["events"][-1]["message"] == "It goes on when its notebook ends."
    clock.advance(7200)
    found = clusters.step(cluster)
    assert found["ended_at"] is None
    assert found["holds"]["clusters"] == 1


def test_an_extension_puts_every_clock_off(clusters: Clusters, clock: FakeClock, ada: Headers) -> None:
    cluster = ready(clusters)
    end_notebook(clusters, ada)
    clusters.step(cluster)
    kept = change(clusters, cluster, keep_for_s=3600)
    assert kept["stops_at"] is None
    assert kept["keep_until"] is not None
    clock.advance(3000)
    assert clusters.step(cluster)["stops_at"] is None
    clock.advance(590)
    assert clusters.step(cluster)["stops_at"] is not None
    clock.advance(125)
    assert clusters.until_ended(cluster)["reason_code"] == "cluster.notebook_gone"


def test_an_idle_one_is_warned_then_stopped(clusters: Clusters, clock: FakeClock) -> None:
    cluster = ready(clusters, idle_s=1300)
    assert clusters.step(cluster)["stops_why"].startswith("It has had neither work nor a client for 21.7 min")
    clock.advance(601)
    assert clusters.step(cluster)["phase"] != "stopping"  # nothing was heard since: not known
    clusters.report(cluster, worker("worker-1"), idle_s=1901)
    ended = clusters.until_ended(cluster)
    assert ended["reason"] == "Stopped for idleness: neither work nor a client for 31.7 min (allowed: 30 min)."


def test_an_agent_of_an_earlier_release_can_t_tell_and_is_not_idle(clusters: Clusters, clock: FakeClock) -> None:
    cluster = ready(clusters)
    clock.advance(7200)
    clusters.report(cluster, worker("worker-1"))
    assert clusters.step(cluster)["stops_at"] is None


def test_one_of_an_earlier_release_is_kept_until_it_is_told_otherwise(
    clusters: Clusters, context: Context, ada: Headers
) -> None:
    cluster = ready(clusters)
    with context.database.begin() as session:
        row = session.get_one(WorkloadRow, cluster)
        row.details = {"secrets": None}
    assert clusters.step(cluster)["on_notebook_end"] == "keep"
    change(clusters, cluster, on_notebook_end="stop")
    assert clusters.step(cluster)["stops_at"] is None  # its notebook runs
    end_notebook(clusters, ada)
    assert clusters.step(cluster)["stops_at"] is not None


@pytest.mark.parametrize("seconds", [-1, 1e12, float("1e300")])
def test_a_time_out_of_range_is_refused_naming_the_field(clusters: Clusters, seconds: float) -> None:
    cluster = clusters.post()["id"]
    refused = change(clusters, cluster, 400, keep_for_s=seconds)
    assert refused["field"] == "keep_for_s"
    assert "7 days" in refused["message"]


def test_only_its_owner_and_an_admin_change_it_and_the_admin_s_change_is_kept(
    clusters: Clusters, context: Context, people: dict[str, Headers]
) -> None:
    cluster = clusters.post()["id"]
    change(clusters, cluster, 404, headers=people["bob"], on_notebook_end="keep")
    change(clusters, cluster, 200, headers=people["root"], on_notebook_end="keep")
    with context.database.read() as session:
        entry = session.scalars(select(AuditRow).where(AuditRow.action == "cluster.keep")).one()
    assert (entry.actor, entry.before, entry.after) == (
        "root",
        {"on_notebook_end": "stop", "keep_until": None},
        {"on_notebook_end": "keep", "keep_until": None},
    )
