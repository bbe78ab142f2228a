"""Every page: who may see it, what it is sent with, and that nothing in it is run that a user wrote."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.identity import sessions
from moorage_service.portal import assets, render
from moorage_service.portal.access import PageRoute
from moorage_service.portal.api import ROUTERS
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow
from tests.fakes.hub import FakeHub
from tests.service.conftest import Headers
from tests.service.portal_bench import Visitor, admit_notebook, sign_in, text_of

PAGES = (
    "/", "/workloads", "/workloads?ended=1", "/projects", "/projects/new", "/projects/starter", "/clusters/new", "/jobs", "/jobs/promote",
    "/api/v1/docs",
)  # fmt: skip
ADMIN_PAGES = ("/admin/limits", "/admin/usage", "/admin/users", "/admin/audit")


@pytest.fixture
def ada_at(client: TestClient, context: Context, ada: Headers, project: ProjectRow) -> Visitor:
    return sign_in(client, context, ada, "ada")


@pytest.fixture
def bob_at(client: TestClient, context: Context, bob: Headers) -> Visitor:
    return sign_in(client, context, bob, "bob")


@pytest.fixture
def admin_at(client: TestClient, context: Context, admin: Headers) -> Visitor:
    return sign_in(client, context, admin, "root")


def test_an_address_without_a_page_is_a_page_to_a_person_and_the_one_format_to_a_program(client: TestClient) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = client.get("/promote", headers=browser)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such page" in text_of(answer.text)
    assert f'href="{PREFIX}/"' in answer.text
    for path, headers in (("/promote", {}), ("/api/v1/promote", browser)):
        assert client.get(path, headers=headers).json()["code"] == "not_found"


def test_a_stranger_is_sent_to_the_hub_and_comes_back_to_the_page_they_wanted(
    client: TestClient, people: dict[str, Headers], hub: FakeHub, project: ProjectRow
) -> None:
    hub.signed_in = "ada"
    away = client.get("/projects/starter?build=x")
    assert away.status_code == 302
    asked = {name: values[0] for name, values in parse_qs(urlsplit(away.headers["location"]).query).items()}
    back = hub.answer("GET", "/hub/api/oauth2/authorize", urlsplit(away.headers["location"]).query, "", b"")
    assert asked["redirect_uri"] == f"{PREFIX}/oauth_callback"
    home = client.get(back.headers["Location"].removeprefix(PREFIX))
    assert home.headers["location"] == f"{PREFIX}/projects/starter?build=x"
    assert client.get("/projects/starter").status_code == 200


def test_pages_are_for_browsers_and_a_token_opens_none(
    client: TestClient, ada: Headers, admin: Headers, project: ProjectRow
) -> None:
    for page in PAGES:
        answer = client.get(page, headers=ada)
        assert (answer.status_code, "API below /api/v1" in answer.text) == (403, True), page
    assert client.get("/admin/limits", headers=admin).status_code == 403


def test_every_page_forbids_foreign_scripts_and_frames_and_holds_none_inline(
    ada_at: Visitor, admin_at: Visitor
) -> None:
    visits = [(ada_at, page) for page in PAGES] + [(admin_at, page) for page in PAGES + ADMIN_PAGES]
    for visitor, page in visits:
        answer = visitor.get(page)
        assert answer.status_code == 200, (page, answer.text)
        policy = answer.headers["content-security-policy"]
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
        assert (answer.headers["x-frame-options"], answer.headers["cache-control"]) == ("DENY", "no-store")
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", answer.text), page
        assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", answer.text), page


def test_a_form_from_another_site_is_not_carried_out(ada_at: Visitor, context: Context) -> None:
    workload = admit_notebook(context, "ada")
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        answer = ada_at.client.post(f"/workloads/{workload}/stop", headers={**ada_at.headers, **headers})
        assert answer.status_code == 403
        assert "another site" in answer.text
    assert "Stop</button>" in ada_at.page("/workloads")


def test_a_form_after_signing_out_does_nothing_and_says_so(client: TestClient, project: ProjectRow) -> None:
    answer = client.post("/start", data={"project": "starter", "cpu": "1", "memory_gib": "1"})
    assert (answer.status_code, "nothing was done" in answer.text) == (401, True)


def test_a_page_that_refreshes_itself_is_not_sent_to_sign_in(client: TestClient) -> None:
    answer = client.get("/workloads", headers={"X-Live": "1"})
    assert (answer.status_code, answer.headers.get("set-cookie")) == (401, None)


def test_what_people_write_is_shown_and_never_run(ada_at: Visitor, context: Context) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    with context.database.begin() as session:
        project = session.scalars(select(ProjectRow)).one()
        project.name, project.manifest = nasty, f"name: x\n# {nasty}</textarea>"
    for page in ("/", "/projects", "/projects/starter"):
        text = ada_at.get(page).text
        assert "alert(1)" in text
        assert not re.search(r"<script>alert|<img src=x", text), page


def test_others_things_are_not_found_on_any_page(ada_at: Visitor, bob_at: Visitor, context: Context) -> None:
    workload = admit_notebook(context, "ada")
    assert ada_at.get(f"/workloads/{workload}").status_code == 200
    with context.database.begin() as session:
        session.scalars(select(ProjectRow)).one().open_to_all = False
    for path in (
        f"/workloads/{workload}",
        f"/clusters/{workload}",
        f"/runs/{workload}",
        "/jobs/jo-none",
        "/projects/starter",
    ):
        assert bob_at.get(path).status_code == 404, path
    for path in (f"/workloads/{workload}/stop", f"/runs/{workload}/cancel", "/projects/starter/build"):
        answer = bob_at.post(path, referer="/workloads")
        assert answer.status_code in (303, 404), path
    assert ">ready<" not in text_of(bob_at.page("/workloads"))
    assert "Stop</button>" in ada_at.page("/workloads")


def test_admin_pages_do_not_exist_for_others(ada_at: Visitor) -> None:
    for page in ADMIN_PAGES:
        assert ada_at.get(page).status_code == 404, page
    for action in ("/admin/limits", "/admin/limits/li-x/remove", "/admin/users/ada"):
        answer = ada_at.client.post(
            action, data={"scope": "everyone", "resource": "cpu", "amount": "1"},
            headers={**ada_at.headers, "Origin": ada_at.context.settings.public_url},
        )  # fmt: skip
        assert answer.status_code == 404, action
    assert "Limits</a>" not in ada_at.page("/")


def test_every_route_of_the_portal_is_a_page_route_for_signed_in_people(client: TestClient) -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, PageRoute)]
    assert len(routes) == sum(len(router.routes) for router in ROUTERS)
    strangers = [route.path for route in routes if "GET" in (route.methods or set()) and "{" not in route.path]
    assert len(strangers) >= 12
    for path in strangers:
        assert client.get(path).status_code == 302, path


def test_files_of_the_portal_are_served_here_and_name_no_other_host(client: TestClient) -> None:
    for file in sorted(render.STATIC.iterdir()):
        answer = client.get(f"/static/{file.name}")
        assert (answer.status_code, answer.content) == (200, file.read_bytes()), file.name
        assert not re.search(r"https?://(?!www\.w3\.org)", answer.text), file.name
    kept = client.get(render.static_url("moorage.css").removeprefix(PREFIX))
    assert "immutable" in kept.headers["cache-control"]
    assert client.get("/static/../portal/render.py").status_code == 404


def test_the_api_is_described_with_assets_of_our_own(ada_at: Visitor) -> None:
    page = ada_at.page("/api/v1/docs")
    found = [
        Path(address).name for address in re.findall(r'(?:src|href)="/services/moorage/static/swagger/([^"]+)"', page)
    ]
    assert sorted(found) == ["swagger-ui-bundle.js", "swagger-ui.css"]
    for name in found:
        answer = ada_at.get(f"/static/swagger/{name}")
        assert (answer.status_code, len(answer.content)) == (200, (assets.SWAGGER / name).stat().st_size)
    described = ada_at.get("/api/v1/openapi.json").json()["paths"]
    assert f"{PREFIX}/api/v1/limits" in described
    assert not [path for path in described if path.startswith(f"{PREFIX}/admin") or path == f"{PREFIX}/"]


def test_a_session_that_ended_leads_to_sign_in(ada_at: Visitor, context: Context) -> None:
    with context.database.begin() as session:
        sessions.end(session, ada_at.headers["Cookie"].partition("=")[2])
    assert ada_at.get("/").status_code == 302
