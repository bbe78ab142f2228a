"""A notebook is admitted on Kubernetes: what its pod needs is there before the hub is answered, and a pod's end is its end."""

# ruff: noqa: F401, F811

from typing import Any

import pytest
from sqlalchemy import select

from moorage.wire import NotebookObservation, Phase, Size
from moorage_service.admin.facts import gather
from moorage_service.admin.invariants import held_while_alive
from moorage_service.notebooks import operations, reconcile
from moorage_service.notebooks.left_secrets import LeftSecrets
from moorage_service.reconciler.fence import OutdatedError
from moorage_service.reconciler.orphans import Orphans
from moorage_service.store.tables import EnvironmentRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.fakes.clock import FakeClock
from tests.service.conftest import ENVIRONMENT, GIB, Headers
from tests.service.notebook_pods_bench import IMAGE, Desk, desk, is_gone, settings
from tests.spawners.test_pod_processes import FAILED, RUNNING
from tests.waiting import eventually


def test_all_that_a_pod_needs_is_there_before_the_hub_is_answered(desk: Desk) -> None:
    desk.client.put("/api/v1/me/secrets/HF_TOKEN", headers=desk.ada, json={"value": "hunter2"})
    answer = desk.admitted()
    place = answer["pod"]
    assert (place["image"], place["home_claim"]) == (IMAGE, "home")
    assert (answer["token"], answer["environment_variables"], answer["project_files"]) == ("", {}, None)
    assert list(desk.made("Namespace")) == [place["namespace"]]
    assert place["namespace"].startswith("moorage-ada-")
    assert desk.made("PersistentVolumeClaim")["home"]["spec"]["resources"]["requests"] == {"storage": "10Gi"}
    assert {"deny-all", "allow-proxy"} <= set(desk.made("NetworkPolicy"))
    assert set(desk.made("RoleBinding")) == {"moorage-workloads", "moorage-spawner"}
    values = desk.secret(place["secret_name"])
    assert set(values) == set(place["secret_variables"].values())
    assert values["MOORAGE_TOKEN"]
    me = desk.client.get("/api/v1/me", headers={"Authorization": f"Bearer {values['MOORAGE_TOKEN']}"}).json()
    assert me["user"]["name"] == "ada"
    assert "moorage-pull" in desk.made("Secret")


def test_the_namespaces_quota_follows_the_limits(desk: Desk, admin: Headers) -> None:
    first = desk.admitted()["workload_id"]
    assert desk.made("ResourceQuota")["moorage"]["spec"]["hard"] == {
        "pods": "20", "services.nodeports": "0", "services.loadbalancers": "0",
    }  # fmt: skip
    of_each = {"scope": "everyone", "sharing": "each"}
    for limit in (
        {**of_each, "resource": "cpu", "amount": 4},
        {**of_each, "resource": "memory", "amount": 8 * GIB},
        {
            **of_each,
            "resource": "cpu",
            "amount": 2,
            "sharing": "pool",
        },  # what others hold is the ledger's alone to know
    ):
        assert desk.client.post("/api/v1/limits", headers=admin, json=limit).status_code == 201
    desk.client.delete(f"/api/v1/notebooks/{first}", headers=desk.ada)
    desk.until(first, "stopped")
    desk.admitted()
    hard = desk.made("ResourceQuota")["moorage"]["spec"]["hard"]
    assert (hard["requests.cpu"], hard["requests.memory"], hard["pods"]) == ("4000m", str(8 * GIB), "20")


def test_a_pods_end_is_the_notebooks_in_the_clusters_words(desk: Desk) -> None:
    answer = desk.admitted()
    workload = answer["workload_id"]
    desk.pod(answer)
    desk.until(workload, "starting")
    operations.observe(desk.context, workload, NotebookObservation(state="ready", url="/user/ada/starter/"))
    assert desk.until(workload, "ready")["url"] == "/user/ada/starter/"
    desk.pod(answer, FAILED)
    ended = desk.until(workload, "failed")
    assert (ended["reason_code"], "exit status 3" in ended["reason"]) == ("pod.crashed", True)
    assert workload not in desk.made("Secret")
    assert desk.admit().status_code == 201


def conditions(**by_type: tuple[str, str]) -> dict[str, Any]:
    """type -> (status, reason)"""
    return {"conditions": [{"type": kind, "status": each[0], "reason": each[1]} for kind, each in by_type.items()]}


def test_a_machine_that_falls_silent_is_told_and_that_it_is_back_while_the_notebook_holds_what_it_holds(desk: Desk) -> None:
    answer = desk.admitted()
    workload = answer["workload_id"]
    desk.pod(answer)
    desk.until(workload, "starting")
    operations.observe(desk.context, workload, NotebookObservation(state="ready", url="/user/ada/starter/"))

    def told(code: str | None) -> dict[str, Any]:
        def ask() -> Any:
            found = desk.until(workload, "ready")
            return found if found["reason_code"] == code else None

        return eventually(ask, what=f"the code {code}")

    desk.pod(answer, {**RUNNING, **conditions(Ready=("False", ""), ContainersReady=("True", ""))})
    silent = told("pod.node_silent")
    assert "does not answer just now" in silent["reason"]
    assert silent["holds"]["cpu"] == 1
    desk.pod(answer, {**RUNNING, **conditions(Ready=("True", ""), ContainersReady=("True", ""))})
    assert told(None)["events"][-1]["message"] == "That has passed."


def test_what_a_server_notices_of_itself_is_told_and_a_full_home_only_while_it_is_full(desk: Desk) -> None:
    answer = desk.admitted()
    workload = answer["workload_id"]
    desk.pod(answer)
    desk.until(workload, "starting")
    operations.observe(desk.context, workload, NotebookObservation(state="ready", url="/user/ada/starter/"))
    own = {"Authorization": f"Bearer {desk.secret(workload)['MOORAGE_TOKEN']}"}

    def report(**condition: Any) -> Any:
        answer = desk.client.post("/api/v1/notebooks/condition", headers=own, json=condition)
        assert answer.status_code == 204, answer.text
        return desk.until(workload, "ready")

    full = report(home_full=True)
    assert (full["reason_code"], "Your home is full" in full["reason"]) == ("volume.full", True)
    assert report(home_full=True)["events"] == full["events"]
    assert report()["reason"] is None
    killed = report(out_of_memory=1)
    assert (killed["reason_code"], "more than its 1 GiB" in killed["reason"]) == ("notebook.out_of_memory", True)
    assert report(out_of_memory=1)["events"] == killed["events"]
    assert desk.client.post("/api/v1/notebooks/condition", headers=desk.ada, json={}).status_code == 403


@pytest.mark.parametrize(
    ("disruption", "code"), [({}, "pod.removed"), (conditions(DisruptionTarget=("True", "EvictionByEvictionAPI")), "pod.drained")]
)
def test_an_end_in_good_order_that_nobody_here_asked_for_has_its_cause(
    desk: Desk, disruption: dict[str, Any], code: str
) -> None:
    answer = desk.admitted()
    workload = answer["workload_id"]
    desk.pod(answer)
    desk.until(workload, "starting")
    ended = {"phase": "Succeeded", "containerStatuses": [{"name": "server", "state": {"terminated": {"exitCode": 0}}}]}
    desk.pod(answer, {**ended, **disruption}, doomed=True)
    desk.remove_pod(answer)
    found = desk.until(workload, "failed")
    assert (found["reason_code"], found["holds"]) == (code, {})


def test_the_check_compares_the_ledger_with_what_the_cluster_counts(desk: Desk) -> None:
    answer = desk.admitted()
    workload = answer["workload_id"]
    desk.pod(answer)
    desk.until(workload, "starting")
    assert [finding.code for finding in held_while_alive(gather(desk.context))] == []
    desk.pod(answer, cpu="1500m")
    eventually(lambda: desk.context.processes.observe(workload)[0].size == Size(cpu=1.5, memory=GIB), what="the change")
    (finding,) = held_while_alive(gather(desk.context))
    assert (finding.code, "1.5 cpu" in finding.what) == ("held.otherwise", True)


def test_a_stopped_notebooks_pod_is_asked_to_end_and_then_it_is_gone(desk: Desk) -> None:
    answer = desk.admitted()
    workload = answer["workload_id"]
    desk.pod(answer)
    desk.until(workload, "starting")
    assert desk.client.delete(f"/api/v1/notebooks/{workload}", headers=desk.ada).status_code == 202
    reconcile.step(desk.context, workload)
    assert [name for name, _ in desk.kubernetes.ended] == [f"{workload}-1"]
    desk.remove_pod(answer)
    desk.until(workload, "stopped")


def test_a_refusal_by_the_cluster_holds_nothing_and_says_why(desk: Desk) -> None:
    desk.kubernetes.forbidden = "exceeded your share"
    refused = desk.admit()
    assert refused.status_code == 409
    assert "can't be made ready" in refused.json()["message"]
    desk.kubernetes.forbidden = ""
    with desk.context.database.read() as session:
        (workload,) = session.scalars(select(WorkloadRow.id))
    desk.until(workload, "failed")
    assert desk.admit().status_code == 201


def test_a_secret_that_an_end_left_is_removed_and_one_that_is_needed_stays(desk: Desk, clock: FakeClock) -> None:
    left = desk.admitted()["workload_id"]
    with desk.context.database.begin() as session:
        workload = session.get_one(WorkloadRow, left)
        lifecycle.ended(session, workload, Phase.FAILED, now=clock(), code="notebook.lost", reason="Cut off.")
    needed = desk.admitted()["workload_id"]
    clock.advance(60)
    LeftSecrets()(desk.context)
    assert [name for name in desk.made("Secret") if name.startswith("nb-")] == [needed]


@pytest.mark.parametrize(("ago_s", "asks"), [(60, True), (3600, False)])
def test_who_takes_over_asks_nothing_about_what_ended_long_ago(
    desk: Desk, clock: FakeClock, ago_s: float, asks: bool
) -> None:
    """A service that only answered has seen every pod of the other's term end."""
    answer = desk.admitted()
    desk.pod(answer)
    desk.until(answer["workload_id"], "starting")
    desk.remove_pod(answer)
    eventually(lambda: is_gone(desk.context.processes, answer["workload_id"]), what="its end")
    with desk.context.database.begin() as session:
        workload = session.get_one(WorkloadRow, answer["workload_id"])
        lifecycle.ended(session, workload, Phase.STOPPED, now=clock(), code="notebook.stopped", reason="By the other.")
    clock.advance(ago_s)
    before = len(desk.kubernetes.paths)
    Orphans(desk.context).run_once()
    assert any("/pods" in path for path in desk.kubernetes.paths[before:]) == asks
    assert desk.context.processes.observe_all() == []


def test_what_ended_long_ago_and_is_seen_all_the_same_is_removed(desk: Desk, clock: FakeClock) -> None:
    answer = desk.admitted()
    desk.pod(answer, FAILED)
    eventually(lambda: desk.context.processes.observe_all(), what="its end")
    with desk.context.database.begin() as session:
        workload = session.get_one(WorkloadRow, answer["workload_id"])
        lifecycle.ended(session, workload, Phase.FAILED, now=clock(), code="notebook.failed", reason="By the other.")
    clock.advance(3600)
    Orphans(desk.context).run_once()
    assert [name for name, _ in desk.kubernetes.ended] == [f"{answer['workload_id']}-1"]


def test_a_service_that_does_not_act_admits_as_well(desk: Desk) -> None:
    def refuse() -> None:
        raise OutdatedError("another one acts")

    desk.context.processes.guard = refuse
    desk.admitted()


def test_a_policy_that_the_settings_changed_is_brought_up_to_date(desk: Desk) -> None:
    first = desk.admitted()["workload_id"]
    assert "allow-world" in desk.made("NetworkPolicy")
    assert desk.context.settings.kubernetes is not None
    desk.context.settings.kubernetes.network_policy.non_private_ips = False
    operations.give_up(desk.context, first, "To start it anew.")
    reconcile.step(desk.context, first)
    desk.admitted()
    assert "allow-world" not in desk.made("NetworkPolicy")
    assert "deny-all" in desk.made("NetworkPolicy")


def test_an_environment_without_an_image_is_to_be_built(desk: Desk) -> None:
    with desk.context.database.begin() as session:
        session.get_one(EnvironmentRow, ENVIRONMENT).image = None
    refused = desk.admit()
    assert (refused.status_code, refused.json()["code"]) == (409, "environment_missing")
    assert desk.made("Namespace") == {}
