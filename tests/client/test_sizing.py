"""The widget's state: what the person does and what the service says become one view."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moorage.environment import Surroundings
from moorage.widget.state import SizingState
from tests.fakes.service_api import FakeServiceApi, problem
from tests.waiting import eventually

HERE = Surroundings(project="starter", public_url="http://hub.test")


class Screen:
    """Keeps the views that a state shows."""

    def __init__(self) -> None:
        self.views: list[dict[str, Any]] = []

    def show(self, view: dict[str, Any]) -> None:
        self.views.append(view)

    @property
    def now(self) -> dict[str, Any]:
        return self.views[-1] if self.views else {}


@pytest.fixture
def api() -> FakeServiceApi:
    return FakeServiceApi()


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def state(api: FakeServiceApi, screen: Screen) -> Iterator[SizingState]:
    made = SizingState(
        api.client(), HERE, screen.show, engine="ray", overlay=lambda: ["humanize 4.9"], lively_s=0.01, quiet_s=0.02
    )
    yield made
    made.close()


def test_moving_a_field_sums_up_anew(state: SizingState, screen: Screen) -> None:
    state.look()
    assert screen.now["check"]["ok"]
    state.handle({"do": "change", "field": "max_workers", "value": 8})
    assert screen.now["form"]["max_workers"]["value"] == 8
    assert not screen.now["check"]["ok"]
    cpu = screen.now["check"]["lines"][0]
    assert (cpu["asked"], cpu["left"], cpu["over"]) == ("9 cores", "4 cores", True)


def test_create_returns_at_once_and_is_followed_until_ready(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    gate = threading.Event()

    def slow(request: httpx.Request) -> httpx.Response:
        gate.wait(10)
        return api._create(request)

    api.routes["POST", "/clusters"] = slow
    api.attach = {"engine": "ray", "address": "10.0.0.1:6379"}
    state.start()
    eventually(lambda: screen.now.get("form") is not None)
    state.handle({"do": "create"})
    assert screen.now["busy"]
    gate.set()
    eventually(lambda: (screen.now["cluster"] or {}).get("phase") == "pending")
    api.clusters["c1"] |= {"phase": "starting", "reason": "Waiting for 1 worker."}
    eventually(lambda: screen.now["cluster"]["phase"] == "starting")
    assert [step["mark"] for step in screen.now["cluster"]["steps"]] == ["done", "now", "todo"]
    assert screen.now["cluster"]["reason"] == "Waiting for 1 worker."
    api.clusters["c1"] |= {
        "phase": "ready", "workers": 1, "versions": {"python": "3.11.2", "ray": "2.60.0"},
        "dashboard": "/services/moorage/dashboards/c1/", "reason": None,
    }  # fmt: skip
    eventually(lambda: screen.now["cluster"]["phase"] == "ready" and screen.now["cluster"]["address"])
    cluster = screen.now["cluster"]
    assert cluster["versions"] == "python 3.11.2, ray 2.60.0"
    assert cluster["dashboard"] == "http://hub.test/services/moorage/dashboards/c1/"
    assert cluster["address"] == "10.0.0.1:6379"
    assert cluster["snippet"] == "cluster = moorage.attach()\ncluster.connect()"
    assert cluster["overlay"].startswith("Not on workers: humanize 4.9.")


def test_a_refusal_shows_rule_use_and_holders(api: FakeServiceApi, state: SizingState, screen: Screen) -> None:
    api.refuse_creates = True
    state.look()
    state.handle({"do": "create"})
    eventually(lambda: screen.now["trouble"] is not None and screen.now["busy"] is None)
    trouble = screen.now["trouble"]
    assert trouble["kind"] == "refusal"
    assert trouble["rule"] == "ada may hold at most 1 core at once"
    assert (trouble["used"], trouble["asked"]) == ("1 core of 1 core", "3 cores")
    assert trouble["holders"] == [{"amount": "1 core", "kind": "notebook", "name": "starter", "owner": "ada"}]
    assert screen.now["form"] is not None


def test_after_a_kernel_restart_the_cluster_is_shown_again(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    api.add_cluster("c7", "ray-7", phase="starting")
    state.look()
    assert screen.now["cluster"]["name"] == "ray-7"


def test_a_cluster_that_is_stopping_does_not_stand_in_the_way_of_the_next(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    api.add_cluster("c7", "ray-7", phase="stopping")
    state.look()
    assert screen.now["form"] is not None
    assert [row["phase"] for row in screen.now["clusters"]] == ["stopping"]


def test_new_cluster_shows_the_form_and_lists_the_old_one(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    api.add_cluster("c7", "ray-7", phase="ready")
    api.attach = {"engine": "ray", "address": "a:1"}
    state.look()
    state.handle({"do": "new"})
    state.look()
    assert screen.now["form"] is not None
    assert [row["name"] for row in screen.now["clusters"]] == ["ray-7"]
    state.handle({"do": "choose", "id": "c7"})
    assert screen.now["cluster"]["id"] == "c7"


def test_stop_asks_the_service(api: FakeServiceApi, state: SizingState, screen: Screen) -> None:
    api.add_cluster("c7", "ray-7", phase="starting")
    state.look()
    state.handle({"do": "stop", "id": "c7"})
    eventually(lambda: api.clusters["c7"]["phase"] == "stopping")
    state.look()
    assert screen.now["cluster"]["words"] == "Stopping."


def test_an_end_that_is_near_is_said_and_put_off_by_one_click(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    api.attach = {"engine": "ray", "address": "a:1"}
    api.add_cluster(
        "c7",
        "ray-7",
        phase="ready",
        on_notebook_end="stop",
        stops_at="2999-01-01T00:00:00Z",
        stops_why="Its notebook has ended.",
    )
    state.look()
    assert screen.now["cluster"]["ending"].startswith("Its notebook has ended; stops in")
    assert screen.now["cluster"]["keeping"] == "ends with its notebook"
    state.handle({"do": "keep", "id": "c7", "hours": 8})
    eventually(lambda: api.clusters["c7"].get("keep_for_s") == 8 * 3600)
    eventually(lambda: screen.now["busy"] is None)
    assert screen.now["cluster"]["ending"] is None
    state.handle({"do": "keep", "id": "c7", "on_notebook_end": "keep"})
    eventually(lambda: screen.now["cluster"]["keeping"] == "goes on when its notebook ends")


def test_the_form_says_what_becomes_of_it_when_the_notebook_ends(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    state.look()
    assert screen.now["form"]["on_notebook_end"] == "stop"
    state.handle({"do": "change", "field": "on_notebook_end", "value": "keep"})
    state.create()
    assert json.loads(api.requests[-1].content)["on_notebook_end"] == "keep"


def test_a_cluster_that_vanished_is_said_to_have_stopped(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    api.add_cluster("c7", "ray-7", phase="starting")
    state.look()
    del api.clusters["c7"]
    state.look()
    assert screen.now["cluster"]["ended"]


def test_a_service_that_is_away_is_said_and_forgotten_when_it_is_back(
    api: FakeServiceApi, state: SizingState, screen: Screen
) -> None:
    api.next_replies = [problem(503, "unavailable", "The database is starting. Try again.")] * 3
    state.look()
    assert screen.now["offline"] == "The database is starting. Try again."
    state.look()
    assert screen.now["offline"] is None
    assert screen.now["form"] is not None


def test_messages_that_make_no_sense_change_nothing(state: SizingState, screen: Screen) -> None:
    state.look()
    before = screen.now
    for message in ({}, {"do": "explode"}, {"do": "choose", "id": "none"}, {"do": "change", "field": None}):
        state.handle(message)
    assert screen.now["form"] == before["form"]
