"""Nobody asks too often, nor keeps others from their turn."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage.wire import NotebookRequest, Phase, Size, WorkloadKind
from moorage_service.app import create_app
from moorage_service.context import Context
from moorage_service.errors import Conflict, TooManyRequests
from moorage_service.identity.rates import FROM_AN_ADDRESS, Action, RateLimits
from moorage_service.jobs import execution
from moorage_service.notebooks import operations as notebooks
from moorage_service.projects import builds
from moorage_service.projects.builder import Builder
from moorage_service.reconciler.loop import Reconciler
from moorage_service.settings import PREFIX, Rates, load
from moorage_service.store.tables import BuildRow, ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from moorage_spawners.launch.proxy_pods import ProxyPods
from tests.cluster_settings import cluster_settings
from tests.fakes.hub import FakeHub
from tests.service.browser import sign_in
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.jobs_bench import notebook, promotion
from tests.service.world import SIZE, World, make_world

GIB = 1 << 30


@pytest.fixture
def twice(context: Context) -> Rates:
    """Two of everything in a minute."""
    rates = Rates(**{action.value: "2 per minute" for action in Action})
    context.settings.rates, context.rates = rates, RateLimits(rates)
    return rates


Ask = Callable[[TestClient, Headers, World], Any]
ASKED: dict[Action, Ask] = {
    Action.NOTEBOOK_START: lambda client, user, world: client.post(
        "/api/v1/projects/starter/notebook", headers=user, json={"cpu": 1, "memory": GIB}
    ),
    Action.CLUSTER_CREATE: lambda client, user, world: client.post(
        "/api/v1/clusters", headers=user, json={"project": "starter", "spec": {"engine": "ray", "worker": SIZE}}
    ),
    Action.RUN_START: lambda client, user, world: client.post(
        f"/api/v1/jobs/{world.job}/runs", headers=user, json={"parameters": {}}
    ),
    Action.PROMOTE: lambda client, user, world: client.post(
        "/api/v1/jobs", headers=user, json=promotion(notebook("1"))
    ),
    Action.BUILD: lambda client, user, world: client.post(f"/api/v1/projects/{world.slug}/builds", headers=user),
}


@pytest.mark.parametrize("action", list(ASKED))
def test_who_asks_too_often_is_told_when_to_ask_again(
    client: TestClient,
    context: Context,
    spawner: Headers,
    people: dict[str, Headers],
    project: ProjectRow,
    twice: Rates,
    action: Action,
) -> None:
    worlds = {name: make_world(context, name, f"{name}s") for name in ("ada", "bob")}
    ask = ASKED[action]

    def counted(name: str) -> Any:
        answer = ask(client, people[name], worlds[name])
        if action is Action.NOTEBOOK_START and answer.status_code == 202:  # the hub asks for it now
            body = {"user": name, "admin": False, "project": "starter", "size": {"cpu": 0.1, "memory": GIB}}
            asked = client.post("/api/v1/notebooks", headers=spawner, json=body)
            assert asked.status_code in (201, 409), asked.text
        return answer

    assert all(counted("ada").status_code != 429 for _ in range(2))
    refused = counted("ada")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests"), refused.text
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert f"Wait {refused.headers['retry-after']} s and try again." in refused.json()["message"]
    assert counted("bob").status_code != 429


def test_the_hubs_own_way_to_a_notebook_is_counted_too(
    client: TestClient, spawner: Headers, project: ProjectRow, people: Any, twice: Rates
) -> None:
    """A user's token starts servers at the hub, past the portal."""
    body = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 0.1, "memory": GIB}}
    statuses = [client.post("/api/v1/notebooks", headers=spawner, json=body).status_code for _ in range(3)]
    assert statuses[-1] == 429
    assert client.post("/api/v1/notebooks", headers=spawner, json={**body, "user": "bob"}).status_code == 201


def test_one_address_asks_for_many_users_only_so_often(context: Context, twice: Rates) -> None:
    for number in range(2 * FROM_AN_ADDRESS):
        context.rates.count(Action.BUILD, user_id=f"us-{number}", address="192.0.2.7")
    with pytest.raises(TooManyRequests, match="from one address"):
        context.rates.count(Action.BUILD, user_id="us-x", address="192.0.2.7")
    context.rates.count(Action.BUILD, user_id="us-y", address="192.0.2.8")
    context.rates.count(Action.BUILD, user_id="us-z")  # a kernel on this machine


@pytest.mark.parametrize(
    ("forwarded", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),  # the first was written by whoever sent it
        ("198.51.100.4, 10.0.0.2", "198.51.100.4"),  # our own proxy's word
        ("203.0.113.9, 198.51.100.4, 10.0.0.2", "198.51.100.4"),
    ],
)
def test_an_address_is_not_what_a_header_says(
    context: Context, client: TestClient, ada: Headers, project: ProjectRow, forwarded: str, counted_as: str
) -> None:
    context.settings.trusted_proxies = ["10.0.0.2"]
    rates = Rates(promote="1 per minute")
    context.rates = RateLimits(rates)
    for number in range(FROM_AN_ADDRESS):
        context.rates.count(Action.PROMOTE, user_id=f"us-{number}", address=counted_as)
    answer = client.post("/api/v1/jobs", headers={**ada, "X-Forwarded-For": forwarded}, json=promotion(notebook("1")))
    assert answer.status_code == 429
    assert "from one address" in answer.json()["message"]


@pytest.mark.parametrize(
    ("caller", "counted_as"),
    [("10.244.0.7", "192.0.2.1"), ("10.244.0.99", "10.244.0.99")],
    ids=["through the proxy", "a kernel's pod"],
)
def test_in_a_cluster_a_kernel_chooses_no_address(
    context: Context, ada: Headers, project: ProjectRow, caller: str, counted_as: str
) -> None:
    settings = context.settings.model_copy(update={"platform": "kubernetes", "kubernetes": cluster_settings()})
    context = replace(context, settings=settings)
    context.address_of = ProxyPods("moorage-proxy-pods", lambda _: {"10.244.0.7"}, patience_s=10).address_of
    context.rates = RateLimits(Rates(build="1 per minute"))
    for number in range(FROM_AN_ADDRESS):
        context.rates.count(Action.BUILD, user_id=f"us-{number}", address=counted_as)
    base = f"{settings.public_url}{PREFIX}"
    with TestClient(create_app(context, background=False), base_url=base, client=(caller, 40000)) as client:
        said = {**ada, "X-Forwarded-For": "203.0.113.9, 192.0.2.1"}
        answer = client.post(f"/api/v1/projects/{project.slug}/builds", headers=said)
    assert (answer.status_code, "from one address" in answer.text) == (429, True)


def test_sign_ins_that_fail_are_counted_by_address(
    client: TestClient, hub: FakeHub, people: dict[str, Headers], twice: Rates
) -> None:
    def guess() -> Any:
        client.cookies.clear()
        client.get("/")
        state = client.cookies["moorage-oauth-state"].strip('"').partition(":")[0]
        return client.get("/oauth_callback", params={"code": "guessed", "state": state})

    for _ in range(4):  # an office comes in the morning
        sign_in(client, hub, "ada")
        client.cookies.clear()
    assert [guess().status_code for _ in range(3)] == [409, 409, 429]
    with pytest.raises(AssertionError, match="Sign-ins may fail 2 per 1 minute from one address"):
        sign_in(client, hub, "ada")


def test_a_rate_that_can_not_be_read_is_refused_at_start(tmp_path: Any) -> None:
    (tmp_path / "settings.yaml").write_text("service: {rates: {promote: often}}")
    with pytest.raises(Exception, match=r"rates\.promote: 'often' is no rate"):
        load(state=tmp_path)


# Whose turn it is


def test_one_user_does_not_take_all_places_in_which_the_hub_starts_notebooks(
    context: Context, people: dict[str, Headers], project: ProjectRow
) -> None:
    context.settings.starting_notebooks = 2
    slugs = ["starter", *(make_world(context, "bob", f"open-{number}").slug for number in range(2))]
    with context.database.begin() as session:
        for row in session.query(ProjectRow):
            row.open_to_all = True

    def start(user: str, slug: str) -> str:
        request = NotebookRequest(user=user, admin=False, project=slug, size=Size(cpu=0.1, memory=GIB))
        return notebooks.admit(context, request).workload_id

    first = start("ada", slugs[0])
    start("ada", slugs[1])
    with pytest.raises(Conflict, match="2 of your notebooks are starting already") as caught:
        start("ada", slugs[2])
    assert caught.value.code == "many_starting"
    start("root", slugs[2])
    with context.database.begin() as session:
        lifecycle.enter(session, session.get_one(WorkloadRow, first), Phase.READY, now=context.clock())
    start("ada", slugs[2])


@each_database
def test_builds_take_turns_between_users(context: Context, people: dict[str, Headers]) -> None:
    with context.database.begin() as session:
        users = {row.hub_name: row.id for row in session.query(UserRow)}
        now = context.clock()
        for number, name in enumerate(["ada"] * 4 + ["bob"] * 2):
            project = ProjectRow(
                slug=f"p{number}", name="p", manifest=f"name: p{number}", created_by=users[name], created_at=now
            )
            session.add(project)
            session.flush()
            session.add(
                BuildRow(
                    project_id=project.id,
                    manifest=project.manifest,
                    requested_by=users[name],
                    created_at=now + timedelta(seconds=number),
                )
            )
    built: list[str] = []
    while True:
        with context.database.begin() as session:
            turn = builds.next_in_turn(session)
            if turn is None:
                break
            row = session.get_one(BuildRow, turn)
            row.state, row.started_at = "succeeded", now + timedelta(minutes=len(built) + 1)
            built.append(session.get_one(UserRow, row.requested_by).hub_name)
    assert built == ["ada", "bob", "ada", "bob", "ada", "ada"]


@each_database
def test_the_builder_takes_them_so(context: Context, people: dict[str, Headers]) -> None:
    with context.database.begin() as session:
        users = {row.hub_name: row.id for row in session.query(UserRow)}
        for number, name in enumerate(("ada", "ada", "bob")):
            at = context.clock() + timedelta(seconds=number)
            project = ProjectRow(slug=f"p{number}", name="p", manifest="no manifest at all", created_at=at)
            session.add(project)
            session.flush()
            session.add(
                BuildRow(
                    id=f"bu-{number}",
                    project_id=project.id,
                    manifest=project.manifest,
                    requested_by=users[name],
                    created_at=at,
                )
            )
    builder, ended = Builder(context), []
    while builder.run_once():
        with context.database.read() as session:
            ended.append({row.id for row in session.query(BuildRow) if row.state == "failed"})
    assert ended == [{"bu-0"}, {"bu-0", "bu-2"}, {"bu-0", "bu-1", "bu-2"}]


@each_database
def test_a_long_queue_of_one_user_keeps_no_other_waiting(
    client: TestClient, context: Context, admin: Headers, people: dict[str, Headers], project: ProjectRow
) -> None:
    """Room for two runs at a time; ada has queued many before bob comes."""
    limit = {"scope": "machine", "resource": "runs", "amount": 2}
    assert client.post("/api/v1/limits", headers=admin, json=limit).status_code == 201
    for name, count in (("ada", 6), ("bob", 2)):
        body = promotion(notebook("1"), name=f"of-{name}")
        job = client.post("/api/v1/jobs", headers=people[name], json=body).json()["id"]
        for _ in range(count):
            assert client.post(f"/api/v1/jobs/{job}/runs", headers=people[name], json={}).status_code == 201
    admitted: list[str] = []
    reconciler = Reconciler(context, WorkloadKind.RUN, lambda context, run_id: step(context, run_id, admitted))
    for ended in range(8):
        reconciler.run_once()
        assert len(admitted) == min(8, ended + 2)
        with context.database.begin() as session:
            done = session.get_one(WorkloadRow, admitted[ended])
            lifecycle.ended(session, done, Phase.SUCCEEDED, now=context.clock())
    with context.database.read() as session:
        owners = [session.get_one(UserRow, session.get_one(WorkloadRow, run).owner_id).hub_name for run in admitted]
    assert owners == ["ada", "bob", "ada", "bob", "ada", "ada", "ada", "ada"]


def step(context: Context, run_id: str, admitted: list[str]) -> None:
    """As the reconciler's, for runs that are queued; notes which are admitted."""
    with context.database.read() as session:
        if session.get_one(WorkloadRow, run_id).phase != Phase.QUEUED.value:
            return
    execution.step(context, run_id)
    with context.database.read() as session:
        if session.get_one(WorkloadRow, run_id).phase == Phase.PENDING.value:
            admitted.append(run_id)
