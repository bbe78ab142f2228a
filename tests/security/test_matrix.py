"""Every route that names a thing of a user's, for every kind of caller: whose it is, members of its project, strangers, admins, nobody.

A workload is its owner's alone, whatever role others have in its project: to them it is not there. What is the project's own
takes the role that `LEAST` names. A new route must be written there, or name a workload.
"""

import re
from typing import Any

import pytest

from moorage_service.context import Context
from moorage_service.store.tables import MemberRow, UserRow, new_id
from tests.fakes.hub import FakeHub
from tests.service import test_routes
from tests.service.test_routes import Headers, Route, Two, addressed, expected_refusals, with_ids

# The same two users with everything, and the same enumeration of routes.
routes = test_routes.routes
two = test_routes.two

ROLES = ("viewer", "editor", "owner")
OF_A_WORKLOAD = re.compile(r"/(clusters|runs|notebooks|workloads|dashboards)/{")
OF_ADMINS = re.compile(r"/(limits|users)/{")
# The role that a route of a project takes; "run_as": only the user as whom the job runs.
LEAST = {
    "GET /api/v1/projects/{slug}": "viewer", "DELETE /api/v1/projects/{slug}": "owner", "PUT /api/v1/projects/{slug}/manifest": "editor",
    "GET /api/v1/projects/{slug}/files": "viewer", "PUT /api/v1/projects/{slug}/files": "editor",
    "PUT /api/v1/projects/{slug}/members/{user}": "owner",
    "DELETE /api/v1/projects/{slug}/members/{user}": "owner", "POST /api/v1/projects/{slug}/builds": "editor",
    "GET /api/v1/projects/{slug}/builds": "editor", "GET /api/v1/builds/{build_id}": "editor", "DELETE /api/v1/builds/{build_id}": "editor",
    "GET /api/v1/builds/{build_id}/log": "editor", "GET /api/v1/projects/{slug}/secrets": "editor",
    "PUT /api/v1/projects/{slug}/secrets/{name}": "editor", "DELETE /api/v1/projects/{slug}/secrets/{name}": "editor",
    "POST /api/v1/projects/{slug}/notebook": "editor", "GET /api/v1/jobs/{job_id}": "viewer", "GET /api/v1/jobs/{job_id}/runs": "viewer",
    "POST /api/v1/jobs/{job_id}/runs": "run_as", "PUT /api/v1/jobs/{job_id}/schedule": "run_as",
    "DELETE /api/v1/jobs/{job_id}/schedule": "run_as", "DELETE /api/v1/jobs/{job_id}": "run_as",
}  # fmt: skip
CHANGES_FOR_GOOD = ("DELETE", "PATCH")


@pytest.fixture
def members(two: Two, context: Context, hub: FakeHub) -> dict[str, Headers]:
    """Of ada's project, beside ada herself: one of each role."""
    found = {}
    with context.database.begin() as session:
        for number, role in enumerate(ROLES):
            user = UserRow(
                hub_name=f"{role}-there", admin=False, groups=[], uid=40_000 + number, created_at=context.clock()
            )
            session.add(user)
            session.flush()
            session.add(MemberRow(project_id=two.ada.project_id, user_id=user.id, role=role))
            found[role] = {"Authorization": f"Bearer {hub.add_user(user.hub_name)}"}
    return found


def api(routes: list[Route]) -> list[Route]:
    return [route for route in addressed(routes) if not route.is_page and route.method != "WEBSOCKET"]


def name_of(route: Route) -> str:
    return str(route).replace("{path:path}", "{path}")


def test_every_route_that_names_a_thing_is_in_the_matrix(routes: list[Route]) -> None:
    own = {
        name_of(route)
        for route in api(routes)
        if not OF_A_WORKLOAD.search(route.path) and not OF_ADMINS.search(route.path)
    }
    assert own == set(LEAST), "say in LEAST which role a route of a project takes"


def test_a_workload_is_not_there_for_the_members_of_its_project(
    two: Two, routes: list[Route], members: dict[str, Headers]
) -> None:
    asked = 0
    for route in (route for route in api(routes) if OF_A_WORKLOAD.search(route.path)):
        for path in with_ids(route, two.ada):
            for role, headers in members.items():
                answer = two.ask(route, path, headers)
                expected = (403,) if route.guard in ("workload", "spawner") else (404,)
                assert answer.status_code in expected, f"{route} as {role}: {answer.status_code} {answer.text[:200]}"
                assert "adas-" not in answer.text
                asked += 1
    assert asked > 40


def test_what_is_a_projects_own_takes_the_role(two: Two, routes: list[Route], members: dict[str, Headers]) -> None:
    rank = {role: number for number, role in enumerate((*ROLES, "run_as"))}
    for route in (route for route in api(routes) if name_of(route) in LEAST):
        least = LEAST[name_of(route)]
        for path in with_ids(route, two.ada):
            for role, headers in members.items():
                enough = rank[role] >= rank[least]
                if enough and route.method in CHANGES_FOR_GOOD:
                    continue  # the others still need it
                answer = two.ask(route, path, headers)
                told = f"{route} as {role}: {answer.status_code} {answer.text[:200]}"
                assert (answer.status_code < 400) == enough, told
                assert enough or answer.status_code == 403, told


def test_lists_show_members_nothing_of_ones_workloads(
    two: Two, routes: list[Route], members: dict[str, Headers]
) -> None:
    ids = set(two.ada.workloads.values())
    lists = [
        route for route in routes if route.method == "GET" and not route.is_page and route.guard in ("user", "member")
    ]
    lists = [route for route in lists if "{" not in route.path] + [
        route for route in lists if route.path.endswith("{job_id}/runs")
    ]
    assert len(lists) > 8
    for route in lists:
        for path in with_ids(route, two.ada):
            for role, headers in members.items():
                answer = two.client.get(path, headers=headers, params={"ended": "true"})
                assert not [each for each in ids if each in answer.text], f"{route} as {role}"


def test_nobody_and_the_hub_reach_nothing_of_a_users(two: Two, routes: list[Route], spawner: Headers) -> None:
    for route in api(routes):
        for path in with_ids(route, two.ada):
            assert two.ask(route, path, {}).status_code == 401, route
            if route.guard != "spawner":
                assert two.ask(route, path, spawner).status_code == 403, route


def test_an_admin_reaches_all_but_what_is_a_workloads_own(two: Two, routes: list[Route], admin: Headers) -> None:
    for route in (route for route in api(routes) if route.method == "GET" and "dashboards/" not in route.path):
        for path in with_ids(route, two.ada):
            answer = two.ask(route, path, admin)
            if route.path.endswith("/attach"):
                assert answer.status_code == 403, "credentials of a cluster are for its owner's workloads"
            elif "/outputs/" in route.path:
                assert answer.json()["message"].startswith("The run has no"), "found, and nothing there yet"
            else:
                assert answer.status_code in (200, 204), f"{route}: {answer.text[:200]}"  # 204: found, and it has none


def guessed(path: str, world: Any) -> str:
    """The same path with ids of nothing, and the ids that stood there."""
    for there in (*world.workloads.values(), world.build, world.job):
        path = path.replace(there, new_id(there.partition("-")[0]))
    return path.replace(f"/{world.slug}", "/no-such-project")


def without_ids(text: str) -> str:
    return re.sub(r"\b[a-z]{2,3}-[a-z0-9]{12}\b|adas|no-such-project", "ID", text)


def test_another_users_id_is_answered_like_one_of_nothing(two: Two, routes: list[Route]) -> None:
    """Else one could find out which there are."""
    compared = 0
    for route in api(routes):
        if OF_ADMINS.search(route.path):
            continue
        for path in with_ids(route, two.ada):
            for credential in ("hub", "run", "cluster"):
                headers = two.credentials[credential]
                real, none = two.ask(route, path, headers), two.ask(route, guessed(path, two.ada), headers)
                if 404 not in expected_refusals(route, credential):
                    assert real.status_code == none.status_code == 403, route
                    continue
                assert (real.status_code, without_ids(real.text)) == (none.status_code, without_ids(none.text)), route
                compared += 1
    assert compared > 40


def test_a_things_name_is_no_way_to_it(two: Two) -> None:
    for kind in ("clusters", "notebooks", "runs", "workloads", "dashboards"):
        for name in (
            f"adas-{kind.rstrip('s')}",
            "adas",
            two.ada.project_id,
            two.ada.cluster.upper(),
            "*",
            "%",
            "_" * 15,
        ):
            prefix = "" if kind == "dashboards" else "/api/v1"
            answer = two.client.get(f"{prefix}/{kind}/{name}", headers=two.credentials["hub"])
            assert answer.status_code in (404, 307), f"{kind} {name}: {answer.text}"
            if answer.status_code == 307:
                assert two.client.get(answer.headers["location"], headers=two.credentials["hub"]).status_code == 404
