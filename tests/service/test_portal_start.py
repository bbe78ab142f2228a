"""Starting a notebook from the start page, following it, and stopping workloads."""

import pytest
from fastapi.testclient import TestClient

from moorage.wire import NotebookObservation, Phase
from moorage_service.context import Context
from moorage_service.notebooks import operations as notebooks
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.service.conftest import Headers
from tests.service.portal_bench import SMALL, Visitor, admit_notebook, sign_in, text_of
from tests.waiting import eventually


@pytest.fixture
def ada_at(client: TestClient, context: Context, ada: Headers, project: ProjectRow) -> Visitor:
    return sign_in(client, context, ada, "ada")


def test_the_start_page_offers_projects_sizes_and_what_is_left(ada_at: Visitor) -> None:
    text = text_of(ada_at.page("/"))
    for piece in ("Starter", "environment ready", "Small", "Medium", "8 cores left", "32 GiB left", "Start notebook"):
        assert piece in text, piece


def test_starting_asks_the_hub_with_the_size_and_shows_the_progress(ada_at: Visitor, hub: FakeHub) -> None:
    answer = ada_at.post("/start", {"project": "starter", "cpu": "1.5", "memory_gib": "3"})
    assert answer.headers["location"] == f"{PREFIX}/start/starter"
    eventually(lambda: ("ada", "starter") in hub.servers)
    assert hub.servers["ada", "starter"] == {
        "project": "starter", "cpu": 1.5, "memory": 3 << 30, "gpu": 0, "gpu_type": None
    }  # fmt: skip
    workload = admit_notebook(ada_at.context, "ada", cpu=1.5)
    shown = text_of(ada_at.page("/start/starter"))
    assert "Starting starter" in shown
    assert "it holds 1.5 cpu, 2 GiB memory" in shown
    notebooks.observe(ada_at.context, workload, NotebookObservation(state="starting", message="JupyterLab loads."))
    assert "JupyterLab loads." in ada_at.page("/start/starter")
    notebooks.observe(ada_at.context, workload, NotebookObservation(state="ready", url="/user/ada/starter/"))
    assert 'data-goto="/user/ada/starter/lab"' in ada_at.page("/start/starter")
    tile = text_of(ada_at.page("/"))
    assert "Open Stop" in tile
    assert "6.5 cores left" in tile


def test_a_start_that_takes_long_is_looked_at_less_often(ada_at: Visitor, clock: FakeClock) -> None:
    ada_at.post("/start", {"project": "starter", **SMALL})
    admit_notebook(ada_at.context, "ada")
    for waited, every in ((0, "0.7"), (12, "2.0"), (588, "5.0")):
        clock.advance(waited)
        assert f'data-live="{every}"' in ada_at.page("/start/starter")


def test_a_refusal_of_the_hub_is_told_on_the_progress_page_with_a_way_back(ada_at: Visitor, hub: FakeHub) -> None:
    hub.failing = True
    ada_at.post("/start", {"project": "starter", **SMALL})
    eventually(lambda: "did not start" in ada_at.page("/start/starter"))
    page = ada_at.page("/start/starter")
    assert "Internal Server Error" in page
    assert "Back to the start page" in page
    hub.failing = False
    ada_at.post("/start", {"project": "starter", **SMALL})
    eventually(lambda: ("ada", "starter") in hub.servers)


def test_a_session_that_the_hub_forgot_leads_to_a_new_sign_in(ada_at: Visitor, hub: FakeHub) -> None:
    hub.tokens.clear()
    assert (
        ada_at.get("/").headers["location"].startswith(f"{ada_at.context.settings.public_url}/hub/api/oauth2/authorize")
    )


def test_a_hub_that_is_down_is_told_too(ada_at: Visitor, hub: FakeHub) -> None:
    hub.down = True
    ada_at.post("/start", {"project": "starter", **SMALL})
    eventually(lambda: "The hub does not answer" in ada_at.page("/start/starter"))


def test_a_notebook_that_failed_says_why(ada_at: Visitor, hub: FakeHub) -> None:
    ada_at.post("/start", {"project": "starter", **SMALL})
    eventually(lambda: ("ada", "starter") in hub.servers)
    workload = admit_notebook(ada_at.context, "ada")
    with ada_at.context.database.begin() as session:
        row = session.get_one(WorkloadRow, workload)
        lifecycle.ended(session, row, Phase.FAILED, now=ada_at.context.clock(), reason="It used too much memory.")
    shown = text_of(ada_at.page("/start/starter"))
    assert "starter did not start It used too much memory." in shown


def test_a_start_that_the_hub_accepted_and_forgot_is_given_up(ada_at: Visitor, hub: FakeHub, clock: FakeClock) -> None:
    ada_at.post("/start", {"project": "starter", **SMALL})
    eventually(lambda: ("ada", "starter") in hub.servers)
    assert "The hub was asked to start the notebook." in ada_at.page("/start/starter")
    clock.advance(61)
    eventually(lambda: "no start of this notebook under way" in ada_at.page("/start/starter"))


def test_a_start_that_was_accepted_and_then_refused_says_why(ada_at: Visitor, hub: FakeHub) -> None:
    """Of many who ask at once there was room for each when the page looked, and not for all when the hub's spawner asked."""
    said = "all users together may hold at most 9 notebooks at once, and 9 are held."
    hub.refused["ada", "starter"] = said
    ada_at.post("/start", {"project": "starter", **SMALL})
    eventually(lambda: "starter did not start" in text_of(ada_at.page("/start/starter")))
    assert said in ada_at.page("/start/starter")
    del hub.refused["ada", "starter"]  # a hub that was restarted does not know any more
    assert said in ada_at.page("/start/starter")


def test_a_progress_page_without_a_start_says_so(ada_at: Visitor) -> None:
    assert "no start of this notebook under way" in ada_at.page("/start/starter")
    assert ada_at.get("/start/elsewhere").status_code == 404


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("cpu", "many", "CPU: 'many' is not a number."),
        ("cpu", "0", "cpu: 0.0 is too little."),
        ("cpu", "nan", "CPU: 'nan' is not a number."),
        ("memory_gib", "0.001", "memory: 1073742 bytes is too little."),
        ("gpu", "1.5", "GPUs: '1.5' is not a whole number."),
        ("gpu", "-1", "gpu: -1 is not a count."),
    ],
)
def test_a_size_that_cannot_be_is_refused_in_a_sentence_and_nothing_is_started(
    ada_at: Visitor, hub: FakeHub, field: str, value: str, sentence: str
) -> None:
    page = ada_at.send("/start", {"project": "starter", **SMALL, field: value}, referer="/?project=starter")
    assert sentence in page
    assert 'role="alert"' in page
    assert not hub.servers
    assert sentence not in ada_at.page("/"), "shown once"


def test_what_lacks_a_field_is_answered_with_a_page(ada_at: Visitor) -> None:
    answer = ada_at.post("/start", {"project": "starter"})
    assert (answer.status_code, "cpu: field required" in answer.text) == (422, True)


def test_workloads_are_listed_with_what_they_hold_and_can_be_stopped(ada_at: Visitor) -> None:
    assert "No notebook. Start one from the start page." in ada_at.page("/workloads")
    workload = admit_notebook(ada_at.context, "ada", cpu=2)
    listed = text_of(ada_at.page("/workloads"))
    assert "starter starter pending" in listed
    assert "2 cores 2 GiB" in listed
    assert "is stopping" in ada_at.send(f"/workloads/{workload}/stop", {"back": f"{PREFIX}/"})
    history = text_of(ada_at.page(f"/workloads/{workload}"))
    assert "Admitted: it holds 2 cpu" in history
    assert "Stopped by its owner." in history
    assert "2 cores" in text_of(ada_at.page("/workloads")), "held until it is observed gone"


def test_a_way_back_leads_nowhere_else(ada_at: Visitor) -> None:
    workload = admit_notebook(ada_at.context, "ada")
    for back in ("https://evil.example/", "//evil.example", "/hub/logout", "javascript:alert(1)"):
        answer = ada_at.post(f"/workloads/{workload}/stop", {"back": back})
        assert answer.headers["location"] == f"{PREFIX}/workloads"
