"""Whatever is sent, to whatever route: an answer below 500, in the one format, and nothing of a traceback; on both databases."""

import copy
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fastapi.testclient import TestClient

from moorage.wire import WorkloadKind
from moorage_service.context import Context
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow
from tests.fakes.hub import FakeHub
from tests.service.browser import sign_in
from tests.service.databases import each_database
from tests.service.test_routes import Route, routes_of
from tests.service.world import SIZE, World, make_world

Headers = dict[str, str]
WRONG: list[Any] = [None, "", "\0", "\ud800", "x" * 5000, -1, 2**63, 1e308, float("nan"), True, [], {}]
ODD_IDS = ["\0", "x" * 3000, "../../etc/passwd", "é"]
CLUSTER = {"engine": "ray", "min_workers": 1, "max_workers": 1, "worker": SIZE, "head": SIZE}
PROMOTION: dict[str, Any] = {
    "project": "adas", "name": "n", "notebook": "a.ipynb", "files": [{"path": "a.ipynb", "content": "e30="}], "parameters": {"a": 1},
    "schedule": {"cron": "0 6 * * *", "timezone": "UTC", "missed": "skip", "overlap": "forbid", "paused": False},
    "cluster": CLUSTER, "size": SIZE, "secrets": ["A"], "timeout_s": 60, "git_commit": "abc",
}  # fmt: skip
CELL = {"index": 0, "state": "running", "source": "x", "started_at": None, "ended_at": None}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/clusters"): {"project": "adas", "name": "c", "spec": CLUSTER},
    ("POST", "/agent/reports"): {
        "generation": 1, "ready": True, "versions": {"ray": "2"}, "workers": [{"name": "w", "busy": True, "idle_s": 0}], "wanted": 1,
        "clients": 1, "message": None,
    },
    ("POST", "/jobs"): PROMOTION,
    ("POST", "/jobs/inspect"): PROMOTION,
    ("PUT", "/jobs/{job_id}/schedule"): PROMOTION["schedule"],
    ("POST", "/schedules/preview"): PROMOTION["schedule"],
    ("POST", "/jobs/{job_id}/runs"): {"parameters": {"alpha": 1}, "version": 1},
    ("POST", "/runs/{run_id}/progress"): {
        "sequence": 1, "cells": [CELL], "error_name": "E", "error_value": "v", "error_cell": 0, "traceback": "t",
    },
    ("POST", "/limits"): {"scope": "user", "name": "ada", "sharing": "each", "resource": "cpu", "amount": 1, "window_s": 60, "why": "w"},
    ("POST", "/notebooks"): {"user": "ada", "admin": False, "groups": ["g"], "project": "adas", "size": SIZE},
    ("POST", "/notebooks/forgotten"): {"user": "ada", "project": "adas"},
    ("POST", "/notebooks/condition"): {"out_of_memory": 1, "home_full": True},
    ("POST", "/notebooks/{workload_id}/observations"): {"state": "ready", "message": "m", "url": "/user/x/"},
    ("POST", "/projects/{slug}/notebook"): SIZE,
    ("POST", "/projects"): {"slug": "shark", "manifest": "name: shark\n"},
    ("PUT", "/projects/{slug}/members/{user}"): {"role": "viewer"},
    ("PUT", "/projects/{slug}/secrets/{name}"): {"value": "x"},
    ("PUT", "/me/secrets/{name}"): {"value": "x"},
    ("POST", "/users/{name}/sign-out"): {"why": "w"},
    ("PATCH", "/users/{name}"): {"uid": 1500, "active": True, "why": "w"},
    ("PATCH", "/clusters/{cluster_id}"): {"on_notebook_end": "keep", "keep_for_s": 60},
}  # fmt: skip
BODIES["PUT", "/limits/{limit_id}"] = BODIES["POST", "/limits"]


def broken(body: Any, wrong: list[Any]) -> Iterator[Any]:
    """The body with one of its parts, at any depth, replaced by each wrong value; and with one left out or too many."""
    yield from wrong
    if isinstance(body, dict):
        yield {**body, "surplus": 1}
        for name in body:
            yield {key: value for key, value in body.items() if key != name}
            for part in broken(body[name], wrong):
                yield {**body, name: part}
    elif isinstance(body, list) and body:
        for part in broken(body[0], wrong):
            yield [part]


def filled(route: Route, world: World) -> str:
    ids = {
        "slug": world.slug, "build_id": world.build, "job_id": world.job, "run_id": world.run, "cluster_id": world.cluster,
        "workload_id": world.notebook, "name": "ada" if "/users/" in route.path else "A_NAME", "user": "bob", "limit_id": "li-none",
    }  # fmt: skip
    return route.path.removeprefix(PREFIX).format(action="pause", **ids)


class Prober:
    def __init__(self, client: TestClient, credentials: dict[str, Headers]) -> None:
        self._client, self._credentials = client, credentials
        self.asked = 0

    def send(self, route: Route, path: str, **given: Any) -> None:
        headers = self._credentials.get(route.guard or "", self._credentials["user"])
        if "/agent/" in path:
            headers = self._credentials["cluster"]
        given["headers"] = {**headers, **given.get("headers", {})}
        answer = self._client.request(route.method, path, **given)
        self.asked += 1
        told = (
            f"{route.method} {path[:200]} {str(given.get('content'))[:300]} -> {answer.status_code} {answer.text[:500]}"
        )
        assert answer.status_code < 500 or answer.json()["code"] in ("hub_unavailable", "hub_failed"), told
        if answer.status_code >= 400:
            body = answer.json()
            assert set(body) <= {"code", "message", "field", "refusal"}, told
            assert len(body["message"]) < 4000, told
            assert "Traceback" not in body["message"], told


@each_database
def test_no_body_and_no_id_breaks_a_route(
    client: TestClient, context: Context, project: ProjectRow, ada: Headers, admin: Headers, spawner: Headers
) -> None:
    world = make_world(context, "ada", "adas")
    own = {kind.value: {"Authorization": f"Bearer {token}"} for kind, token in world.tokens.items()}
    prober = Prober(
        client,
        {
            "user": ada,
            "member": ada,
            "admin": admin,
            "spawner": spawner,
            "workload": own["run"],
            "cluster": own["cluster"],
        },
    )
    api = [route for route in routes_of(client.app) if "/api/v1/" in route.path and route.guard not in (None, "page")]
    shallow = [None, "\0", "\ud800", 2**63]
    for route in sorted(api, key=lambda route: route.method):
        name = route.path.partition("/api/v1")[2]
        good = BODIES.get((route.method, name))
        if route.takes_body:
            assert good is not None, f"{route} takes a body: add a good one to BODIES"
            values = WRONG if len(json.dumps(good)) < 200 else shallow
            for body in broken(copy.deepcopy(good), values):
                sent = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
                prober.send(route, filled(route, world), **sent)
        if "{" in route.path and route.method != "DELETE":
            for odd in ODD_IDS:
                start, _, rest = route.path.removeprefix(PREFIX).partition("{")
                path = (
                    start + quote(odd, safe="") + rest.partition("}")[2].replace("{user}", "bob").replace("{name}", "A")
                )
                prober.send(route, path, **({"json": good} if good is not None else {}))
    assert prober.asked > 500


@each_database
def test_no_query_breaks_a_route(
    client: TestClient, context: Context, ada: Headers, admin: Headers, project: ProjectRow
) -> None:
    world = make_world(context, "ada", "adas")
    prober = Prober(client, {"user": ada, "member": ada, "admin": admin})
    schema = client.get("/api/v1/openapi.json").json()["paths"]
    for route in routes_of(client.app):
        operation = schema.get(route.path, {}).get("get", {}) if route.method == "GET" else {}
        for parameter in operation.get("parameters", ()):
            for value in ("\0", "x" * 3000, "-1", "99999999999999999999", "é") if parameter["in"] == "query" else ():
                prober.send(route, filled(route, world), params={parameter["name"]: value})
    assert prober.asked > 50


@each_database
def test_half_a_pair_in_a_report_breaks_no_answer(
    client: TestClient, context: Context, ada: Headers, project: ProjectRow
) -> None:
    world = make_world(context, "ada", "adas")
    headers = {"Authorization": f"Bearer {world.tokens[WorkloadKind.RUN]}", "Content-Type": "application/json"}
    report = json.dumps({"sequence": 1, "cells": [], "error_value": "a\ud800"})
    assert client.post(f"/api/v1/runs/{world.run}/progress", content=report, headers=headers).status_code == 204
    assert client.get(f"/api/v1/runs/{world.run}", headers=ada).json()["error_value"] == "a?"


@each_database
def test_a_key_that_is_too_long_is_refused(client: TestClient, ada: Headers, project: ProjectRow) -> None:
    body = {"slug": "mine", "manifest": "name: mine\n"}
    answer = client.post("/api/v1/projects", headers={**ada, "Idempotency-Key": "x" * 201}, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


FORMS: dict[str, tuple[str, ...]] = {
    "/start": ("project", "cpu", "memory_gib", "gpu", "gpu_type"),
    "/admin/limits": ("scope", "resource", "amount", "name", "sharing", "window_s", "why"),
    "/admin/limits/{limit_id}/change": ("amount", "why"),
    "/admin/users/{name}": ("uid", "active", "why"),
    "/projects/new": ("slug", "manifest"),
    "/projects/{slug}/members": ("user", "role"),
    "/projects/{slug}/secrets": ("name", "value"),
    "/clusters/new": ("project", "engine", "min_workers", "max_workers", "cpu", "memory_gib", "gpu", "gpu_type", "name"),
    "/clusters/{cluster_id}/keep": ("on_notebook_end", "hours"),
    "/jobs/{job_id}/run": ("alpha", "p.alpha"),
    "/jobs/{job_id}/schedule": ("cron", "timezone", "missed", "overlap"),
    "/jobs/promote": ("project", "name", "cron", "timezone", "engine", "cpu"),
}  # fmt: skip
LIKELY = {"project": "starter", "cpu": "1", "memory_gib": "2", "amount": "1", "scope": "everyone", "resource": "cpu", "engine": "ray",
          "min_workers": "1", "max_workers": "1", "cron": "0 6 * * *", "timezone": "UTC"}  # fmt: skip


@each_database
def test_no_form_and_no_address_breaks_a_page(
    client: TestClient, context: Context, hub: FakeHub, project: ProjectRow, ada: Headers, admin: Headers
) -> None:
    world = make_world(context, "ada", "adas")
    sign_in(client, hub, "root", f"{PREFIX}/")
    origin = {"Origin": context.settings.public_url}
    for route in (route for route in routes_of(client.app) if route.is_page):
        path = filled(route, world)
        if route.method == "GET":
            sent: list[dict[str, Any]] = [
                {"params": {name: odd}} for name in ("project", "build", "ended") for odd in ("\0", "é")
            ]
        else:
            fields = FORMS.get(route.path.removeprefix(PREFIX), ())
            sent = [
                {"data": {**{name: LIKELY.get(name, "x") for name in fields}, field: odd}, "headers": origin}
                for field in fields
                for odd in ("", "\0", "x" * 3000, "-1", "1e400", "é")
            ]
        for given in sent:
            answer = client.request(route.method, path, **given)
            assert answer.status_code < 500 or "The hub" in answer.text, f"{route} {given} -> {answer.text[:600]}"
            assert "Traceback" not in answer.text
        for odd in ODD_IDS if "{" in route.path and route.method == "GET" else ():
            start, _, rest = route.path.removeprefix(PREFIX).partition("{")
            answer = client.get(start + quote(odd, safe="") + rest.partition("}")[2])
            assert answer.status_code < 500, f"{route} {odd!r} -> {answer.text[:600]}"
