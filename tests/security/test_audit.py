"""What admins do by their rights as admins is written down, whole and for good; and nobody else has these rights."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import WorkloadKind
from moorage_service.context import Context
from moorage_service.settings import PREFIX
from moorage_service.store.tables import AuditRow, BuildRow, JobRow, MemberRow, ProjectRow, RunRow, UserRow
from tests.fakes.clock import FakeClock
from tests.fakes.hub import ACCESS, FakeHub
from tests.security.test_disabled_users import cookies_of
from tests.service import test_routes
from tests.service.conftest import Headers
from tests.service.test_routes import BODIES, Route, addressed, with_ids
from tests.service.world import World, make_world

routes = test_routes.routes
WHY = "because-of-this"
# What an admin does as themselves, wherever it is: a workload of their own.
OWN_WORK = {"POST /api/v1/projects/{slug}/notebook"}


def rows(context: Context) -> list[tuple[Any, ...]]:
    with context.database.read() as session:
        found = session.scalars(select(AuditRow).order_by(AuditRow.id))
        return [(row.id, row.at, row.actor, row.action, row.target, row.before, row.after, row.why) for row in found]


def changing(routes: list[Route]) -> list[Route]:
    """Routes of the API by which a person changes a thing that exists."""
    found = [
        route
        for route in addressed(routes)
        if route.method in ("POST", "PUT", "PATCH", "DELETE")
        and route.guard in ("user", "member", "admin")
        and "/dashboards/" not in route.path
        and str(route) not in OWN_WORK
    ]
    return sorted(found, key=str)


def busy_world(context: Context, slug: str) -> World:
    """Of ada, with a build that can be cancelled, a schedule and a second member."""
    world = make_world(context, "ada", slug)
    with context.database.begin() as session:
        session.get_one(BuildRow, world.build).state = "queued"
        session.get_one(JobRow, world.job).schedule = {"cron": "0 7 * * *", "timezone": "UTC"}
        bob = session.scalars(select(UserRow).where(UserRow.hub_name == "bob")).one()
        session.add(MemberRow(project_id=world.project_id, user_id=bob.id, role="viewer"))
    return world


def test_every_change_of_others_things_by_an_admin_is_written_down(
    client: TestClient, context: Context, admin: Headers, ada: Headers, project: ProjectRow, routes: list[Route]
) -> None:
    seen: list[tuple[Any, ...]] = []
    changed = set()
    for number, route in enumerate(changing(routes)):
        world = busy_world(context, f"w{number}")
        for path in (each.replace("/members/ada", "/members/bob") for each in with_ids(route, world)):
            name = f"{route.method} {route.path.removeprefix(PREFIX)}"
            body = dict(BODIES.get(name, {}))
            if route.takes_body and not body:
                pytest.fail(f"{route} takes a body: add a good one to BODIES")
            answer = client.request(
                route.method, path, params={"why": WHY}, **{**body, "headers": {**body.get("headers", {}), **admin}}
            )
            now = rows(context)
            assert now[: len(seen)] == seen, f"{route} changed what was written"
            new = now[len(seen) :]
            seen = now
            if answer.status_code >= 400:
                assert not new, f"{route} was refused ({answer.text}) and left {new}"
                continue
            changed.add(name)
            assert len(new) == 1, f"{route}: {answer.status_code}, {new}"
            (_, at, actor, action, target, before, after, why) = new[0]
            assert (actor, why) == ("root", WHY), route
            assert at is not None
            assert action
            assert target
            assert before is not None or after is not None, route
    assert len(changed) >= 15, changed
    assert {
        "DELETE /api/v1/workloads/{workload_id}",
        "DELETE /api/v1/runs/{run_id}",
        "DELETE /api/v1/clusters/{cluster_id}",
    } <= changed
    assert {
        "PATCH /api/v1/users/{name}",
        "PUT /api/v1/projects/{slug}/members/{user}",
        "DELETE /api/v1/jobs/{job_id}",
    } <= changed


def test_what_one_may_as_oneself_is_not_the_admins_doing(
    client: TestClient, context: Context, admin: Headers, ada: Headers, project: ProjectRow
) -> None:
    world = make_world(context, "ada", "adas")
    with context.database.begin() as session:
        root = session.scalars(select(UserRow).where(UserRow.hub_name == "root")).one()
        session.add(MemberRow(project_id=world.project_id, user_id=root.id, role="owner"))
    for headers in (ada, admin):
        assert (
            client.put("/api/v1/projects/adas/members/bob", headers=headers, json={"role": "viewer"}).status_code == 204
        )
        assert client.delete("/api/v1/projects/adas/members/bob", headers=headers).status_code == 204
    assert client.delete(f"/api/v1/runs/{world.run}", headers=ada).status_code == 202
    assert rows(context) == []


def last(context: Context) -> dict[str, Any]:
    names = ("id", "at", "actor", "action", "target", "before", "after", "why")
    return dict(zip(names, rows(context)[-1], strict=True))


def test_it_says_who_what_before_after_and_why(
    client: TestClient, context: Context, admin: Headers, project: ProjectRow
) -> None:
    world = make_world(context, "ada", "adas")
    limit = {"scope": "user", "name": "ada", "resource": "cpu", "amount": 4, "why": "course"}
    assert client.post("/api/v1/limits", headers=admin, json=limit).status_code == 201
    assert (
        client.post("/api/v1/limits", headers=admin, json={**limit, "amount": 2, "why": "it ended"}).status_code == 201
    )
    found = last(context)
    assert (found["actor"], found["action"], found["before"], found["after"], found["why"]) == (
        "root", "limit.set", {"amount": 4}, {"amount": 2}, "it ended",
    ) or (found["before"]["amount"], found["after"]["amount"], found["why"]) == (4, 2, "it ended")  # fmt: skip
    path = "/api/v1/projects/adas/members/bob"
    assert client.put(path, headers=admin, json={"role": "viewer"}).status_code == 204
    assert client.put(path, headers=admin, json={"role": "editor"}, params={"why": "asked"}).status_code == 204
    found = last(context)
    assert (found["action"], found["target"], found["before"], found["after"], found["why"]) == (
        "project.member", "adas", {"user": "bob", "role": "viewer"}, {"user": "bob", "role": "editor"}, "asked",
    )  # fmt: skip
    assert client.delete(f"/api/v1/clusters/{world.cluster}", headers=admin, params={"why": "idle"}).status_code == 202
    found = last(context)
    assert (found["action"], found["target"], found["why"]) == ("workload.stop", world.cluster, "idle")
    assert (found["before"]["owner"], found["before"]["phase"]) == ("ada", "ready")


def test_looking_into_others_work_is_written_down_once_an_hour(
    client: TestClient,
    context: Context,
    hub: FakeHub,
    clock: FakeClock,
    people: dict[str, Headers],
    project: ProjectRow,
) -> None:
    world = make_world(context, "ada", "adas")
    outputs = context.settings.state / "outputs" / world.run
    outputs.mkdir(parents=True)
    (outputs / "run.log").write_text("42")
    with context.database.begin() as session:
        assert session.get(RunRow, world.run) is not None
    session_of_root = cookies_of(client, hub, context, "root")
    for headers, path in (
        (people["ada"], f"/api/v1/runs/{world.run}/log"),
        (people["root"], f"/api/v1/runs/{world.run}/log"),
        (people["root"], f"/api/v1/runs/{world.run}/outputs/run.log"),
        (session_of_root, f"/runs/{world.run}"),
        (people["root"], f"/api/v1/clusters/{world.cluster}/log"),
    ):
        assert client.get(path, headers=headers).status_code == 200, path
    assert [(row[3], row[4]) for row in rows(context)] == [
        ("workload.open", world.run),
        ("workload.open", world.cluster),
    ]
    assert last(context)["before"] == {"owner": "ada", "kind": "cluster", "name": "adas-cluster"}
    clock.advance(3601)
    assert client.get(f"/runs/{world.run}", headers=session_of_root).status_code == 200
    assert len(rows(context)) == 3


def test_nobody_can_change_or_remove_what_is_written(routes: list[Route]) -> None:
    assert {route.method for route in routes if re.search(r"/audit", route.path)} == {"GET"}


OF_ADMINS = re.compile(r"/(limits|usage|users|audit|health/parts)")


def test_limits_uses_and_users_are_for_admins_alone(
    client: TestClient,
    context: Context,
    hub: FakeHub,
    people: dict[str, Headers],
    project: ProjectRow,
    routes: list[Route],
) -> None:
    """Nor for an admin's own notebook, nor for whoever was one."""
    worlds: dict[str, World] = {name: make_world(context, name, f"{name}s") for name in ("root", "bob")}
    others: list[Headers] = [people["bob"], cookies_of(client, hub, context, "bob")]
    others += [{"Authorization": f"Bearer {token}"} for world in worlds.values() for token in world.tokens.values()]
    # As a hub gives its servers whose configuration is not ours: with the right to be at the portal.
    of_a_server = hub.add_token("root", scopes=(ACCESS, "access:servers!server=root/starter"))
    others.append({"Authorization": f"Bearer {of_a_server}"})
    before = rows(context)
    asked = 0
    for route in routes:
        path = route.path.removeprefix(f"{PREFIX}/api/v1")
        if not OF_ADMINS.match(path) or route.guard is None:
            continue
        assert route.guard == "admin", route
        body = dict(BODIES.get(f"{route.method} {route.path.removeprefix(PREFIX)}", {}))
        for headers in others:
            answer = client.request(
                route.method,
                with_ids(route, worlds["root"])[0],
                **{**body, "headers": {**body.get("headers", {}), **headers}},
            )
            assert answer.status_code == 403, f"{route}: {answer.text}"
            asked += 1
    assert asked > 60
    assert rows(context) == before
    hub.accounts["root"].admin = False
    assert client.get("/api/v1/limits", headers=people["root"]).status_code == 403
    assert WorkloadKind.NOTEBOOK in worlds["root"].tokens
