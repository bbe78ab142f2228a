"""What the client sends, the service takes; what the service answers, the client reads. And the schema says so.

Every function of `moorage.calls` is sent to the real routes as its caller would, and its answer read by the client's own parser.
"""

import base64
import io
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from inspect import getmembers, isfunction
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from moorage import calls, wire
from moorage.call import Call, Reply
from moorage.errors import MoorageError
from moorage_service.context import Context
from moorage_service.store.tables import ProjectRow
from tests.fakes.hub import FakeHub
from tests.service.world import GIB, World, make_world

Headers = dict[str, str]
NOTEBOOK = b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}'
SIZE = wire.Size(cpu=0.5, memory=GIB)
RAY = wire.ClusterSpec(engine="ray", worker=wire.Size(cpu=0.5, memory=GIB))
DAILY = wire.Schedule(cron="0 6 * * *", timezone="Europe/Berlin")


@dataclass
class Parties:
    """Who may send what: credentials by name, and ada's things."""

    client: TestClient
    world: World
    headers: dict[str, Headers]

    def send(self, who: str, call: Call[Any]) -> Any:
        answer = self.client.request(
            call.method, call.url, params=dict(call.params), content=call.content, headers={**call.headers, **self.headers[who]}
        )  # fmt: skip
        return call.result(Reply(answer.status_code, answer.content, dict(answer.headers)))


@pytest.fixture
def parties(
    client: TestClient, context: Context, ada: Headers, admin: Headers, spawner: Headers, project: ProjectRow
) -> Parties:
    world = make_world(context, "ada", "adas")
    own = {kind.value: {"Authorization": f"Bearer {token}"} for kind, token in world.tokens.items()}
    return Parties(client, world, {"user": ada, "admin": admin, "hub": spawner, **own})


def an_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("readme.md")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"hi"))
    return buffer.getvalue()


def promotion() -> wire.PromoteRequest:
    files = [wire.SnapshotFile(path="a.ipynb", content=base64.b64encode(NOTEBOOK).decode())]
    return wire.PromoteRequest(project="starter", notebook="a.ipynb", files=files, schedule=DAILY)


def limit() -> wire.LimitRequest:
    return wire.LimitRequest(scope="everyone", resource="cpu", amount=7, why="shared machine")


CELL = wire.CellProgress(index=0, state="running", source="x = 1")
FOR_BOB = wire.NotebookRequest(user="bob", admin=False, project="starter", size=SIZE)
GONE = wire.NotebookObservation(state="gone")
Sent = dict[str, Any]
MANIFEST = "name: theirs\npython: '3.11'\npackages: []\n"

# Function of `moorage.calls` -> who sends it, and the call. In this order: what ends things comes last.
SENT: list[tuple[str, str, Callable[[World, Sent], Call[Any]]]] = [
    ("me", "user", lambda w, s: calls.me()),
    ("my_usage", "user", lambda w, s: calls.my_usage("adas")),
    ("my_use", "user", lambda w, s: calls.my_use("memory", "kind", 1, "Europe/Berlin")),
    ("set_my_secret", "user", lambda w, s: calls.set_my_secret("TOKEN", "x")),
    ("my_secrets", "user", lambda w, s: calls.my_secrets()),
    ("remove_my_secret", "user", lambda w, s: calls.remove_my_secret("TOKEN")),
    ("create_project", "user", lambda w, s: calls.create_project(wire.ProjectRequest(slug="theirs", manifest=MANIFEST))),
    ("put_manifest", "user", lambda w, s: calls.put_manifest("theirs", MANIFEST)),
    ("put_files", "user", lambda w, s: calls.put_files("theirs", an_archive())),
    ("project_files", "user", lambda w, s: calls.project_files("theirs")),
    ("projects", "user", lambda w, s: calls.projects()),
    ("project", "user", lambda w, s: calls.project("adas")),
    ("start_build", "user", lambda w, s: calls.start_build("theirs")),
    ("builds", "user", lambda w, s: calls.builds("theirs")),
    ("build", "user", lambda w, s: calls.build(s["start_build"].id)),
    ("build_log", "user", lambda w, s: calls.build_log(s["start_build"].id)),
    ("cancel_build", "user", lambda w, s: calls.cancel_build(s["start_build"].id)),
    ("set_member", "user", lambda w, s: calls.set_member("theirs", "bob", "editor")),
    ("remove_member", "user", lambda w, s: calls.remove_member("theirs", "bob")),
    ("set_project_secret", "user", lambda w, s: calls.set_project_secret("adas", "TOKEN", "x")),
    ("project_secrets", "user", lambda w, s: calls.project_secrets("adas")),
    ("remove_project_secret", "user", lambda w, s: calls.remove_project_secret("adas", "TOKEN")),
    ("start_notebook", "user", lambda w, s: calls.start_notebook("starter", SIZE)),
    ("admit_notebook", "hub", lambda w, s: calls.admit_notebook(FOR_BOB)),
    ("observe_notebook", "hub", lambda w, s: calls.observe_notebook(s["admit_notebook"].workload_id, GONE)),
    ("report_condition", "notebook", lambda w, s: calls.report_condition(wire.NotebookCondition(out_of_memory=0))),
    ("forget_notebook", "hub", lambda w, s: calls.forget_notebook(wire.NotebookForgotten(user="bob", project="starter"))),
    ("notebooks", "user", lambda w, s: calls.notebooks()),
    ("notebook", "user", lambda w, s: calls.notebook(w.notebook)),
    ("cluster_options", "user", lambda w, s: calls.cluster_options("starter")),
    ("create_cluster", "user", lambda w, s: calls.create_cluster(wire.ClusterRequest(project="starter", spec=RAY))),
    ("clusters", "user", lambda w, s: calls.clusters()),
    ("cluster", "user", lambda w, s: calls.cluster(s["create_cluster"].id)),
    ("change_cluster", "user", lambda w, s: calls.change_cluster(s["create_cluster"].id, wire.ClusterChange(keep_for_s=60))),
    ("cluster_log", "user", lambda w, s: calls.cluster_log(s["create_cluster"].id)),
    ("report", "cluster", lambda w, s: calls.report(wire.AgentReport(generation=1, ready=True))),
    ("inspect_job", "user", lambda w, s: calls.inspect_job(promotion())),
    ("promote", "user", lambda w, s: calls.promote(promotion())),
    ("jobs", "user", lambda w, s: calls.jobs("starter")),
    ("job", "user", lambda w, s: calls.job(s["promote"].id)),
    ("set_schedule", "user", lambda w, s: calls.set_schedule(s["promote"].id, DAILY)),
    ("preview_schedule", "user", lambda w, s: calls.preview_schedule(DAILY)),
    ("start_run", "user", lambda w, s: calls.start_run(s["promote"].id, wire.RunRequest())),
    ("job_runs", "user", lambda w, s: calls.job_runs(s["promote"].id)),
    ("runs", "user", lambda w, s: calls.runs()),
    ("report_run", "run", lambda w, s: calls.report_run(w.run, wire.RunProgress(sequence=1, cells=[CELL]))),
    ("put_run_output", "run", lambda w, s: calls.put_run_output(w.run, "notebook.ipynb", NOTEBOOK)),
    ("run_output", "user", lambda w, s: calls.run_output(w.run, "notebook.ipynb")),
    ("run", "user", lambda w, s: calls.run(w.run)),
    ("run_log", "user", lambda w, s: calls.run_log(w.run)),
    ("workloads", "user", lambda w, s: calls.workloads()),
    ("workload_events", "user", lambda w, s: calls.workload_events(w.notebook)),
    ("create_limit", "admin", lambda w, s: calls.create_limit(limit())),
    ("set_limit", "admin", lambda w, s: calls.set_limit(s["create_limit"].id, limit())),
    ("limits", "admin", lambda w, s: calls.limits()),
    ("remove_limit", "admin", lambda w, s: calls.remove_limit(s["create_limit"].id, "enough")),
    ("usage", "admin", lambda w, s: calls.usage()),
    ("use", "admin", lambda w, s: calls.use("cpu", "user", 30)),
    ("as_csv", "admin", lambda w, s: calls.as_csv(calls.use())),
    ("users", "admin", lambda w, s: calls.users()),
    ("change_user", "admin", lambda w, s: calls.change_user("bob", {"active": True})),
    ("sign_out", "admin", lambda w, s: calls.sign_out("bob", "a lost laptop")),
    ("audit", "admin", lambda w, s: calls.audit(10)),
    ("health", "admin", lambda w, s: calls.health()),
    ("cancel_run", "user", lambda w, s: calls.cancel_run(w.run)),
    ("remove_schedule", "user", lambda w, s: calls.remove_schedule(s["promote"].id)),
    ("delete_job", "user", lambda w, s: calls.delete_job(s["promote"].id)),
    ("stop_workload", "user", lambda w, s: calls.stop_workload(w.cluster)),
    ("stop_cluster", "user", lambda w, s: calls.stop_cluster(s["create_cluster"].id)),
    ("stop_notebook", "user", lambda w, s: calls.stop_notebook(w.notebook)),
    ("delete_project", "user", lambda w, s: calls.delete_project("theirs")),
]  # fmt: skip
# `attach_cluster` needs a cluster that runs: tests/service/test_clusters_live.py.
NOT_HERE = {"attach_cluster"}


def test_every_call_of_the_client_is_tried() -> None:
    there = {
        name
        for name, found in getmembers(calls, isfunction)
        if not name.startswith("_") and found.__module__ == calls.__name__
    }
    assert there - NOT_HERE == {name for name, _, _ in SENT}


def test_the_service_takes_what_the_client_sends_and_the_client_reads_what_it_answers(parties: Parties) -> None:
    answers: Sent = {}
    for name, who, make in SENT:
        try:
            answers[name] = parties.send(who, make(parties.world, answers))
        except MoorageError as error:
            raise AssertionError(f"{name}: {error}") from error
    assert answers["me"].user.name == "ada"
    assert answers["notebook"].phase is wire.Phase.READY
    assert answers["notebook"].events[-1].code == "notebook.ready"
    assert answers["cluster"].spec.engine == "ray"
    assert answers["create_cluster"].holds["clusters"] == 1
    assert answers["job"].schedule == DAILY
    assert answers["run"].cells == [CELL]
    assert answers["run_output"] == NOTEBOOK
    assert answers["set_limit"].text == "each user may hold at most 7 cpu at once"
    assert {each.owner for each in answers["usage"].workloads} == {"ada", "bob"}
    assert answers["my_use"].unit == "GiB-hours"
    assert {line.name for line in answers["use"].lines} == {"ada", "bob"}
    assert answers["as_csv"].startswith("begin,end,user,resource,amount,unit")
    assert [each.action for each in answers["audit"][:2]] == ["user.sign-out", "user.change"]


def test_a_refusal_arrives_as_the_clients_error_with_its_parts(parties: Parties) -> None:
    parties.send("admin", calls.create_limit(wire.LimitRequest(scope="user", name="ada", resource="cpu", amount=0.4)))
    with pytest.raises(MoorageError) as caught:
        parties.send("user", calls.create_cluster(wire.ClusterRequest(project="starter", spec=RAY)))
    refusal: wire.Refusal = getattr(caught.value, "refusal")  # noqa: B009 - only this error has one
    assert (refusal.resource, refusal.amount, refusal.used) == ("cpu", 0.4, 0.3)
    assert sorted(each.kind for each in refusal.held_by) == ["cluster", "notebook", "run"]


def test_the_schema_is_valid_and_describes_the_requests(client: TestClient) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    for name, part in schema["components"]["schemas"].items():
        Draft202012Validator.check_schema(part)
        if name.endswith("Request") or name in ("Size", "Schedule", "ClusterSpec", "AgentReport", "RunProgress"):
            assert part["additionalProperties"] is False, name
    resolved = {"$ref": "#/components/schemas/ClusterRequest", "components": schema["components"]}
    validator = Draft202012Validator(resolved)
    assert validator.is_valid(asdict(wire.ClusterRequest(project="starter", spec=RAY)))
    assert not validator.is_valid({"spec": {"engine": "spark"}})


def test_the_schema_names_each_operation_once_and_says_what_it_is(client: TestClient) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    seen: set[str] = set()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"] not in seen
            seen.add(operation["operationId"])
            assert operation["tags"], f"{method} {path}"
            assert operation["summary"]


def test_the_fake_hub_starts_what_was_asked(parties: Parties, hub: FakeHub) -> None:
    parties.send("user", calls.start_notebook("starter", SIZE))
    assert hub.servers["ada", "starter"]["memory"] == GIB
