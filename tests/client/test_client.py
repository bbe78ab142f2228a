"""The client sends calls, repeats what may be repeated, and turns answers into errors that say what to do."""

import json
from typing import Any

import httpx
import pytest

from moorage import calls, errors, wire
from moorage.asyncclient import AsyncClient
from moorage.call import Call
from moorage.client import Client
from moorage.environment import Surroundings, surroundings
from tests.fakes.service_api import REFUSAL, URL, FakeServiceApi, problem

SPEC = wire.ClusterSpec(engine="ray", worker=wire.Size(cpu=1, memory=2**31))


@pytest.fixture
def api() -> FakeServiceApi:
    return FakeServiceApi()


def test_a_call_carries_token_and_key_and_comes_back_typed(api: FakeServiceApi) -> None:
    with api.client() as client:
        cluster = client.send(calls.create_cluster(wire.ClusterRequest(spec=SPEC)))
    request = api.requests[0]
    assert cluster.phase is wire.Phase.PENDING
    assert str(request.url) == f"{URL}/api/v1/clusters"
    assert request.headers["authorization"] == "Bearer token-of-ada"
    assert request.headers["idempotency-key"]
    assert json.loads(request.content)["spec"]["worker"] == {"cpu": 1, "memory": 2**31, "gpu": 0}


def test_a_create_is_repeated_with_the_same_key_while_the_service_restarts(api: FakeServiceApi) -> None:
    api.next_replies = [httpx.Response(503, text="gone"), httpx.ReadTimeout("slow")]
    with api.client() as client:
        client.send(calls.create_cluster(wire.ClusterRequest(spec=SPEC)))
    assert len(api.requests) == 3
    assert len({request.headers["idempotency-key"] for request in api.requests}) == 1


def test_a_report_is_not_repeated_once_it_left(api: FakeServiceApi) -> None:
    api.next_replies = [httpx.ReadTimeout("slow")]
    with api.client() as client, pytest.raises(errors.ServiceUnreachable, match="did not answer in time"):
        client.send(calls.report(wire.AgentReport(generation=1, ready=True)))
    assert len(api.requests) == 1


def test_a_service_that_is_away_is_a_sentence(api: FakeServiceApi) -> None:
    api.next_replies = [httpx.ConnectError("refused")] * 3
    with api.client() as client, pytest.raises(errors.ServiceUnreachable, match="does not answer") as caught:
        client.send(calls.me())
    assert "clusters and runs go on" in caught.value.message


def test_a_refusal_names_rule_use_and_holder(api: FakeServiceApi) -> None:
    api.refuse_creates = True
    with api.client() as client, pytest.raises(errors.LimitRefused) as caught:
        client.send(calls.create_cluster(wire.ClusterRequest(spec=SPEC)))
    assert caught.value.message.splitlines() == [
        REFUSAL["message"],
        "Rule: ada may hold at most 1 core at once. Used: 1 core of 1 core; asked: 3 cores.",
        "Held: 1 core by notebook starter of ada",
    ]
    assert caught.value.refusal.held_by[0].workload == "n1"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (problem(400, "bad_request", "cron: write five fields.", field="cron"), errors.BadRequest),
        (problem(422, "bad_request", "cpu: greater than 0.", field="cpu"), errors.BadRequest),
        (problem(401, "not_signed_in", "Sign in first."), errors.Unauthorized),
        (problem(403, "forbidden", "Only an admin may."), errors.Forbidden),
        (problem(404, "not_found", "No such cluster."), errors.NotFound),
        (problem(409, "conflict", "It is stopping."), errors.Conflict),
        (problem(500, "error", "It broke."), errors.ServiceFailed),
        (httpx.Response(500, text="<html>"), errors.ServiceFailed),
        (httpx.Response(404, text="<html>"), errors.ServiceUnreachable),
        (httpx.Response(200, text="<html>"), errors.ServiceUnreachable),
        (httpx.Response(200, json={"user": 3}), errors.ServiceUnreachable),
        (httpx.Response(302, headers={"location": "/hub/login"}), errors.ServiceUnreachable),
    ],
)
def test_each_answer_becomes_its_error(
    api: FakeServiceApi, reply: httpx.Response, kind: type[errors.MoorageError]
) -> None:
    api.next_replies = [reply]
    with api.client() as client, pytest.raises(kind) as caught:
        client.send(calls.me())
    assert type(caught.value) is kind
    assert caught.value.message.endswith(".") or "." in caught.value.message


def test_names_in_paths_are_quoted(api: FakeServiceApi) -> None:
    with api.client() as client, pytest.raises(errors.NotFound):
        client.send(calls.set_my_secret("a/b c", "v"))
    assert api.requests[0].url.raw_path.endswith(b"/me/secrets/a%2Fb%20c")


async def test_the_async_client_does_the_same(api: FakeServiceApi) -> None:
    api.next_replies = [httpx.Response(502), httpx.ConnectError("refused")]
    transport = httpx.MockTransport(api.answer)
    async with AsyncClient(URL, "t", transport=transport, delays=(0.0, 0.0)) as client:
        options = await client.send(calls.cluster_options("starter"))
    assert [engine.engine for engine in options.engines] == ["ray", "dask"]
    assert len(api.requests) == 3
    assert api.requests[0].url.query == b"project=starter"


def test_without_address_or_token_the_client_says_what_to_set() -> None:
    with pytest.raises(errors.NotConfigured, match="MOORAGE_API_URL"):
        Client.here(around=Surroundings())
    with pytest.raises(errors.NotConfigured, match="MOORAGE_TOKEN"):
        Client.here(around=Surroundings(api_url=URL))
    with pytest.raises(errors.InvalidInput, match="'ftp://x'"):
        Client.here("ftp://x", "t", around=Surroundings())


def test_surroundings_are_read_from_the_environment() -> None:
    found = surroundings({"MOORAGE_API_URL": URL + "/", "MOORAGE_TOKEN": "", "MOORAGE_PUBLIC_URL": "http://o:1"})
    assert (found.api_url, found.token) == (URL, None)
    assert found.link("/services/x") == "http://o:1/services/x"
    assert found.link("http://y/") == "http://y/"
    assert found.link(None) is None


def test_every_route_is_a_call_with_a_unique_request() -> None:
    size, secret = wire.Size(cpu=1, memory=1), wire.LimitRequest(scope="everyone", resource="cpu", amount=1)
    made: list[Call[Any]] = [
        calls.me(),
        calls.my_usage(),
        calls.my_secrets(),
        calls.set_my_secret("n", "v"),
        calls.remove_my_secret("n"),
        calls.projects(),
        calls.project("p"),
        calls.delete_project("p"),
        calls.put_manifest("p", ""),
        calls.put_files("p", b""),
        calls.start_build("p"),
        calls.builds("p"),
        calls.build("b"),
        calls.cancel_build("b"),
        calls.build_log("b", 3),
        calls.set_member("p", "u", "viewer"),
        calls.remove_member("p", "u"),
        calls.project_secrets("p"),
        calls.set_project_secret("p", "n", "v"),
        calls.remove_project_secret("p", "n"),
        calls.start_notebook("p", size),
        calls.notebooks(),
        calls.notebook("n"),
        calls.stop_notebook("n"),
        calls.clusters(),
        calls.cluster("c"),
        calls.stop_cluster("c"),
        calls.attach_cluster("c"),
        calls.cluster_log("c"),
        calls.jobs(),
        calls.job("j"),
        calls.delete_job("j"),
        calls.set_schedule("j", wire.Schedule(cron="* * * * *")),
        calls.remove_schedule("j"),
        calls.start_run("j", wire.RunRequest()),
        calls.job_runs("j"),
        calls.runs(),
        calls.run("r"),
        calls.cancel_run("r"),
        calls.run_output("r", "a/b.html"),
        calls.put_run_output("r", "a", b""),
        calls.run_log("r"),
        calls.workloads(),
        calls.workload_events("w"),
        calls.stop_workload("w"),
        calls.limits(),
        calls.create_limit(secret),
        calls.set_limit("l", secret),
        calls.remove_limit("l"),
        calls.usage(),
        calls.users(),
        calls.change_user("u", {}),
        calls.audit(),
    ]
    seen = {(call.method, call.path) for call in made}
    assert len(seen) == len(made)
    assert all(call.repeatable for call in made)
