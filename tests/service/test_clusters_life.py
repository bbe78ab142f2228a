"""What the reconciler and the agent's reports make of a cluster: ready, grown, shrunk, mended, given up, ended."""

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage_service.clusters import leftovers, operations
from moorage_service.clusters.platforms.local import MAKING, LocalPlatform
from moorage_service.clusters.reconcile import step, survey
from moorage_service.context import Context
from moorage_service.identity.rates import RateLimits
from moorage_service.settings import Rates, Settings
from moorage_service.store.tables import ReservationRow
from tests.fakes.clock import FakeClock
from tests.nesting import nesting
from tests.service.clusters_bench import API, Clusters, open_clusters, worker
from tests.service.conftest import Headers
from tests.service.engines_bench import open_settings
from tests.waiting import eventually


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=26400) as made:
        yield made


@pytest.fixture
def clusters(client: TestClient, context: Context, people: dict[str, Headers]) -> Iterator[Clusters]:
    assert "ada" in people
    with open_clusters(client, context) as made:
        yield made


def test_only_the_agent_makes_it_ready(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.report(cluster, ready=False, versions={})
    assert clusters.get(cluster)["phase"] == "starting"
    clusters.report(cluster, ready=False)
    assert clusters.get(cluster)["reason"] == "The head answers; 0 of 1 workers have joined."
    clusters.report(cluster, worker("worker-1"))
    ready = clusters.get(cluster)
    assert (ready["phase"], ready["workers"], ready["versions"]) == ("ready", 1, {"ray": "2.60.0"})
    assert ready["dashboard"] == f"/services/moorage/dashboards/{cluster}/"


def test_a_claim_to_be_ready_without_enough_workers_is_not_believed(clusters: Clusters) -> None:
    cluster = clusters.start(min_workers=2, max_workers=2)
    clusters.report(cluster, worker("worker-1"), ready=True)
    assert clusters.get(cluster)["phase"] == "starting"


def test_it_grows_with_its_work_and_retires_what_is_idle(clusters: Clusters) -> None:
    cluster = clusters.start(max_workers=2)
    clusters.report(cluster, worker("worker-1", busy=True), wanted=7)
    assert clusters.step(cluster)["target_workers"] == 2
    assert clusters.alive(cluster) == {"head", "agent", "worker-1", "worker-2"}
    both = [worker("worker-1", idle_s=30), worker("worker-2", idle_s=60)]
    assert clusters.report(cluster, *both)["retire"] == ["worker-2"]
    clusters.step(cluster)
    assert "worker-2" in clusters.alive(cluster)  # until the engine has let it go
    clusters.report(cluster, both[0])
    eventually(lambda: clusters.step(cluster) and "worker-2" not in clusters.alive(cluster), what="the end of worker-2")
    codes = [event["code"] for event in clusters.step(cluster)["events"]]
    assert "cluster.grows" in codes
    assert "cluster.shrinks" in codes
    assert "cluster.worker_lost" not in codes


def test_a_lost_worker_is_replaced_and_the_cluster_is_not_ready_meanwhile(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1"))
    clusters.kill(cluster, "worker-1")
    clusters.report(cluster, ready=False)
    assert clusters.get(cluster)["phase"] == "starting"
    clusters.step(cluster)
    assert clusters.alive(cluster) == {"head", "agent", "worker-2"}
    clusters.report(cluster, worker("worker-2"))
    assert clusters.get(cluster)["phase"] == "ready"
    assert any(
        "worker-1 is gone: it was ended by signal 9" in event["message"] for event in clusters.get(cluster)["events"]
    )


def test_a_worker_that_runs_but_is_cut_off_is_replaced(clusters: Clusters, clock: FakeClock) -> None:
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1"))
    clusters.report(cluster, ready=False)
    clock.advance(clusters.context.settings.start_timeout_s - 1)
    clusters.report(cluster, ready=False)
    assert "worker-1" in (clusters.step(cluster) and clusters.alive(cluster))
    clock.advance(2)
    clusters.report(cluster, ready=False)
    eventually(
        lambda: clusters.step(cluster) and clusters.alive(cluster) == {"head", "agent", "worker-2"}, what="worker-2"
    )
    assert any("worker-1 runs, but has not been part" in event["message"] for event in clusters.get(cluster)["events"])


def test_workers_that_end_at_once_are_given_up(clusters: Clusters, clock: FakeClock) -> None:
    (clusters.environment / "bin" / "failing").touch()
    cluster = clusters.start()

    def given_up() -> dict[str, Any] | None:
        clock.advance(5)
        found = clusters.step(cluster)
        return found if found["ended_at"] else None

    ended = eventually(given_up, what="giving up")
    assert (ended["phase"], ended["reason_code"]) == ("failed", "cluster.workers_fail")
    assert "exit status 3" in ended["reason"]


def test_a_dead_head_fails_the_cluster_with_its_reason_and_leaves_nothing(
    clusters: Clusters, settings: Settings
) -> None:
    cluster = clusters.start()
    folder = operations.platform_of(clusters.context).folder(cluster)
    assert folder.exists()
    clusters.report(cluster, worker("worker-1"))
    clusters.kill(cluster, "head")
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["reason_code"], ended["holds"]) == ("failed", "cluster.head_ended", {})
    assert "ended by signal 9" in ended["reason"]
    assert "started:" in ended["reason"]  # the head's last lines
    row = clusters.row(cluster)
    assert (row.port_block, row.sealed) == (None, None)
    assert clusters.context.processes.observe(cluster) == []
    assert not folder.exists()
    log = clusters.client.get(f"{API}/clusters/{cluster}/log", headers=clusters.notebook).text
    assert log.startswith("==> head <==\nstarted:")


def test_a_head_that_ends_before_it_was_ready_is_started_again_twice_at_most(clusters: Clusters) -> None:
    cluster = clusters.start()
    for _ in range(2):
        clusters.kill(cluster, "head")
        eventually(lambda: clusters.step(cluster) and "head" in clusters.alive(cluster), what="another head")
    codes = [event["code"] for event in clusters.get(cluster)["events"]]
    assert codes.count("cluster.head_again") == 2
    clusters.kill(cluster, "head")
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["reason_code"], ended["holds"]) == ("failed", "cluster.head_ended", {})
    assert "lost" not in ended["reason"].partition("Its last lines")[0]  # it held nothing yet


def test_a_lost_agent_is_replaced(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.kill(cluster, "agent")
    clusters.step(cluster)
    assert "agent-2" in clusters.alive(cluster)


def test_one_that_does_not_become_ready_in_time_is_ended_with_a_sentence(clusters: Clusters, clock: FakeClock) -> None:
    cluster = clusters.start()
    clusters.report(cluster, ready=False)
    clock.advance(clusters.context.settings.start_timeout_s + 1)
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["reason_code"]) == ("failed", "cluster.start_timeout")
    assert "0 of 1 workers have joined" in ended["reason"]


def test_silence_is_not_readiness(clusters: Clusters, clock: FakeClock) -> None:
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1"))
    clock.advance(60)
    assert clusters.step(cluster)["reason_code"] == "cluster.silent"
    clusters.report(cluster, worker("worker-1"))
    assert clusters.get(cluster)["phase"] == "ready"


def test_stopped_it_holds_on_until_nothing_is_left(clusters: Clusters) -> None:
    cluster = clusters.start()
    answer = clusters.client.delete(f"{API}/clusters/{cluster}", headers=clusters.notebook)
    assert (answer.status_code, answer.json()["phase"]) == (202, "stopping")
    assert answer.json()["holds"]["clusters"] == 1
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["holds"]) == ("stopped", {})
    assert clusters.client.delete(f"{API}/clusters/{cluster}", headers=clusters.notebook).status_code == 202


def test_a_report_needs_the_cluster_s_own_token_and_generation(clusters: Clusters) -> None:
    cluster = clusters.start()
    clusters.report(cluster, expect=409, generation=7)
    body = {"generation": 1, "ready": True}
    assert clusters.client.post(f"{API}/agent/reports", json=body, headers=clusters.notebook).status_code == 403
    assert (
        clusters.client.post(f"{API}/clusters", json={"spec": {}}, headers=clusters.agent(cluster)).status_code == 403
    )


def test_a_cluster_keeps_its_reservation_bound_while_it_runs(clusters: Clusters) -> None:
    cluster = clusters.start()
    with clusters.context.database.read() as session:
        assert session.get_one(ReservationRow, cluster).bound


def full_disk(*_given: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_start_that_meets_a_full_disk_is_tried_until_its_time_is_up(
    clusters: Clusters, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = clusters.post()["id"]
    with monkeypatch.context() as patched:
        patched.setattr(clusters.context.machine, "start", full_disk)
        found = clusters.step(cluster)
        assert found["phase"] == "starting"
        assert (
            found["reason"]
            == "Its head could not be started yet: No space left on device. It is tried again and again."
        )
        clusters.step(cluster)
    assert clusters.step(cluster)["ended_at"] is None
    assert clusters.alive(cluster) == {"head", "agent", "worker-1"}
    other = clusters.post()["id"]
    monkeypatch.setattr(clusters.context.machine, "start", full_disk)
    clusters.step(other)
    clock.advance(clusters.context.settings.start_timeout_s + 1)
    ended = clusters.until_ended(other)
    assert (ended["phase"], ended["reason_code"], ended["holds"]) == ("failed", "cluster.start_timeout", {})
    assert "No space left on device" in ended["reason"]


def test_a_worker_that_can_t_be_started_is_put_off_and_others_go_on(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = clusters.start(max_workers=2)
    clusters.report(cluster, worker("worker-1", busy=True), wanted=2)
    with monkeypatch.context() as patched:
        patched.setattr(clusters.context.machine, "start", full_disk)
        found = clusters.step(cluster)
    assert found["phase"] == "ready"
    assert found["events"][-1]["message"] == (
        "worker-2 could not be started: No space left on device. Another one takes its place."
    )
    eventually(lambda: "worker-3" in (clusters.step(cluster) and clusters.alive(cluster)), what="another one")


def test_one_that_waits_for_ports_says_so_and_fails_when_its_time_is_up(clusters: Clusters, clock: FakeClock) -> None:
    clusters.context.settings.port_blocks = 0
    cluster = clusters.start()
    waiting = clusters.get(cluster)
    assert (waiting["phase"], waiting["reason_code"]) == ("pending", "cluster.no_ports")
    clock.advance(clusters.context.settings.start_timeout_s + 1)
    ended = clusters.until_ended(cluster)
    assert (ended["phase"], ended["holds"]) == ("failed", {})
    assert "It waits for ports" in ended["reason"]


def test_time_in_which_nobody_could_hear_it_does_not_count(clusters: Clusters, clock: FakeClock) -> None:
    cluster = clusters.start()
    clock.advance(clusters.context.settings.start_timeout_s + 1)
    clusters.context.started_at = clock()  # the service was away, and has just come back
    assert clusters.step(cluster)["phase"] == "starting"
    clusters.report(cluster, worker("worker-1"))
    assert clusters.get(cluster)["phase"] == "ready"


def test_a_full_disk_keeps_no_log_but_nothing_else_either(clusters: Clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = clusters.start()
    folder = operations.platform_of(clusters.context).folder(cluster)
    clusters.client.delete(f"{API}/clusters/{cluster}", headers=clusters.notebook)
    monkeypatch.setattr(LocalPlatform, "_keep_log", full_disk)
    assert clusters.until_ended(cluster)["holds"] == {}
    assert not folder.exists()
    assert clusters.context.processes.observe(cluster) == []


def test_folders_without_end_in_its_folder_keep_nothing_that_it_held(clusters: Clusters) -> None:
    cluster = clusters.start()
    folder = operations.platform_of(clusters.context).folder(cluster)
    with nesting() as nest:
        nest(folder / "work")
        clusters.client.delete(f"{API}/clusters/{cluster}", headers=clusters.notebook)
        assert clusters.until_ended(cluster)["holds"] == {}
        assert not folder.exists()


def test_what_a_killed_service_left_is_swept_and_nothing_else(clusters: Clusters) -> None:
    cluster, live = clusters.start(), clusters.start()
    platform = operations.platform_of(clusters.context)
    folder = platform.folder(cluster)
    clusters.client.delete(f"{API}/clusters/{cluster}", headers=clusters.notebook)
    clusters.until_ended(cluster)
    half_made, new, unknown = (folder.parent / name for name in (f"{MAKING}old", f"{MAKING}new", "a2345678901z"))
    for path in (folder, half_made, new, unknown):
        path.mkdir()
    os.utime(half_made, (0, 0))
    leftovers.sweep(clusters.context)
    assert [path.exists() for path in (folder, half_made)] == [False, False]
    assert [path.exists() for path in (new, unknown, platform.folder(live))] == [True, True, True]


def test_a_start_that_was_cut_off_is_done_again(clusters: Clusters) -> None:
    """The service died between writing down what to start and starting it."""
    cluster = clusters.start()
    clusters.kill(cluster, "agent")
    generation = clusters.context.machine.root / cluster / "agent" / "1"
    (generation / "record.json").unlink()
    (generation / "log").unlink()
    eventually(lambda: clusters.step(cluster) and (generation / "log").exists(), what="its second start")
    assert clusters.alive(cluster) == {"head", "agent", "worker-1"}


def test_a_steady_cluster_costs_no_write(clusters: Clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1", idle_s=1), idle_s=1)
    clusters.step(cluster)

    def refuse() -> None:
        raise AssertionError("a write transaction")

    monkeypatch.setattr(clusters.context.database, "begin", refuse)
    assert list(survey(clusters.context, [cluster])) == []
    step(clusters.context, cluster)
    clusters.report(cluster, worker("worker-1", idle_s=2), idle_s=2)
    with pytest.raises(AssertionError, match="a write"):
        clusters.report(cluster, worker("worker-1", busy=True))


def test_a_survey_names_those_with_something_to_do(clusters: Clusters) -> None:
    first, second = clusters.start(), clusters.start()
    for cluster in (first, second):
        clusters.report(cluster, worker("worker-1"))
    assert list(survey(clusters.context, [first, second])) == []
    clusters.kill(second, "worker-1")
    assert list(survey(clusters.context, [first, second])) == [second]
    clusters.client.delete(f"{API}/clusters/{first}", headers=clusters.notebook)
    assert set(survey(clusters.context, [first, second])) == {first, second}


def test_what_an_agent_says_is_kept_short_and_not_again_and_again(clusters: Clusters, clock: FakeClock) -> None:
    """Its token lies in the environment of its owner's process."""
    cluster = clusters.start()
    clusters.report(cluster, worker("worker-1"), message="x" * 100_000)
    ready = clusters.get(cluster)
    assert (ready["phase"], len(ready["reason"]) < 2100, ready["reason"][-1]) == ("ready", True, "…")
    for number in range(5):
        clusters.report(cluster, worker("worker-1"), message=f"number {number}")
    found = clusters.get(cluster)
    assert found["reason"] == ready["reason"]
    assert len(found["events"]) == len(ready["events"])
    clock.advance(10)
    clusters.report(cluster, worker("worker-1"), message="later")
    assert clusters.get(cluster)["reason"] == "later"


def test_an_agent_that_reports_without_end_is_told_to_wait(clusters: Clusters) -> None:
    clusters.context.rates = RateLimits(Rates(report="3 per minute"))
    cluster = clusters.start()
    for _ in range(3):
        clusters.report(cluster)
    refused = clusters.report(cluster, expect=429)
    assert refused["message"].startswith("Reports may come 3 per 1 minute")
