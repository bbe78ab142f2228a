"""Who the service takes a caller for, and whom it turns away, in which words."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import NotebookRequest, Phase, Size
from moorage_service.context import Context
from moorage_service.errors import Conflict, Forbidden
from moorage_service.identity import cookies, homes, users
from moorage_service.identity.hub import HubClient
from moorage_service.identity.keys import read_or_make
from moorage_service.identity.vault import Vault
from moorage_service.notebooks import operations as notebooks
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow, SessionRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.cluster_settings import cluster_settings
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.service.browser import sign_in
from tests.service.databases import each_database

Headers = dict[str, str]
ME = "/api/v1/me"
GIB = 1 << 30


@each_database
def test_a_hub_token_is_its_user(client: TestClient, ada: Headers) -> None:
    answer = client.get(ME, headers=ada)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["user"]["name"], answer.json()["via"]) == ("ada", "hub")


def test_nobody_is_told_to_sign_in(client: TestClient) -> None:
    answer = client.get(ME)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    for header in ("Bearer", "Bearer  ", "Basic abc", "Bearer nonsense", "Bearer moor_nonsense"):
        assert client.get(ME, headers={"Authorization": header}).status_code == 401, header


@pytest.mark.parametrize(
    "scopes", [(), ("self",), ("access:services!service=other",), ("access:services!service=moorage-evil",)]
)
def test_a_token_for_something_else_may_not_use_the_service(
    client: TestClient, people: dict[str, Headers], hub: FakeHub, scopes: tuple[str, ...]
) -> None:
    token = hub.add_token("ada", scopes=scopes)
    answer = client.get(ME, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert "access:services!service=moorage" in answer.json()["message"]


def test_a_revoked_token_works_no_longer(client: TestClient, hub: FakeHub, ada: Headers) -> None:
    assert client.get(ME, headers=ada).status_code == 200
    hub.revoke(ada["Authorization"].partition(" ")[2])
    assert client.get(ME, headers=ada).status_code == 401


def test_the_hub_is_asked_directly_whatever_proxy_leads_to_the_internet(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds need one; tokens must not go through it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    token = hub.add_user("ada")
    with hub.serve() as url:
        client = HubClient(f"{url}/hub/api", tmp_path / "token", cache_s=0)
        found = client.user_for_token(token)
        client.close()
    assert found is not None
    assert found.name == "ada"


def test_a_tokens_owner_is_remembered_for_as_long_as_set(context: Context, hub: FakeHub) -> None:
    token = hub.add_user("ada")
    assert context.hub.user_for_token(token, cache_s=3600) is not None
    hub.revoke(token)
    assert context.hub.user_for_token(token, cache_s=3600) is not None
    assert context.hub.user_for_token(token, cache_s=0) is None


@pytest.mark.parametrize("trouble", ["down", "failing"])
def test_a_hub_in_trouble_is_not_taken_for_an_unknown_token(
    client: TestClient, hub: FakeHub, ada: Headers, trouble: str
) -> None:
    setattr(hub, trouble, True)
    answer = client.get(ME, headers=ada)
    assert (answer.status_code, answer.json()["code"].startswith("hub_")) == (503, True)
    setattr(hub, trouble, False)
    assert client.get(ME, headers=ada).status_code == 200


def test_a_user_who_did_not_change_is_only_read(client: TestClient, context: Context, ada: Headers) -> None:
    client.get(ME, headers=ada)
    with context.database.begin():  # holds SQLite's one write lock
        assert client.get(ME, headers=ada).status_code == 200


def test_admin_and_groups_follow_the_hub(client: TestClient, hub: FakeHub, ada: Headers) -> None:
    hub.accounts["ada"].admin, hub.accounts["ada"].groups = True, ("staff",)
    user = client.get(ME, headers=ada).json()["user"]
    assert (user["admin"], user["groups"]) == (True, ["staff"])
    hub.accounts["ada"].admin = False
    assert client.get("/api/v1/limits", headers=ada).status_code == 403


def test_a_disabled_user_is_turned_away_with_every_credential(
    client: TestClient, context: Context, hub: FakeHub, admin: Headers, ada: Headers, project: ProjectRow
) -> None:
    token = notebook_of(context, "ada")
    answer = client.patch("/api/v1/users/ada", headers=admin, json={"active": False, "why": "left"})
    assert answer.json()["active"] is False
    assert client.get(ME, headers=ada).json()["code"] == "not_signed_in"
    new = {"Authorization": f"Bearer {hub.add_token('ada')}"}
    assert client.get(ME, headers=new).json()["code"] == "user_disabled"
    assert client.get(ME, headers={"Authorization": f"Bearer {token}"}).status_code == 401
    answer = client.patch("/api/v1/users/root", headers=admin, json={"active": False})
    assert answer.json()["message"] == "active: nobody can disable themselves. Ask another admin."


def notebook_of(context: Context, name: str, *, admin: bool = False) -> str:
    request = NotebookRequest(user=name, admin=admin, project="starter", size=Size(cpu=0.5, memory=GIB))
    return notebooks.admit(context, request).token


def test_a_notebooks_token_is_its_owner_but_never_an_admin(
    client: TestClient, context: Context, admin: Headers, project: ProjectRow
) -> None:
    headers = {"Authorization": f"Bearer {notebook_of(context, 'root', admin=True)}"}
    assert client.get(ME, headers=headers).json()["user"]["name"] == "root"
    assert client.get("/api/v1/limits", headers=headers).status_code == 403
    assert client.get("/api/v1/limits", headers=admin).status_code == 200


def test_a_notebooks_token_dies_with_it_and_with_its_generation(
    client: TestClient, context: Context, project: ProjectRow
) -> None:
    headers = {"Authorization": f"Bearer {notebook_of(context, 'ada')}"}
    assert client.get(ME, headers=headers).status_code == 200
    with context.database.begin() as session:
        workload = session.scalars(select(WorkloadRow)).one()
        workload.generation += 1
    assert client.get(ME, headers=headers).status_code == 401
    with context.database.begin() as session:
        workload = session.scalars(select(WorkloadRow)).one()
        workload.generation -= 1
        lifecycle.ended(session, workload, Phase.STOPPED, now=context.clock())
    assert client.get(ME, headers=headers).status_code == 401


def test_the_hubs_own_token_is_for_the_hubs_routes_only(client: TestClient, spawner: Headers, ada: Headers) -> None:
    assert client.get(ME, headers=spawner).status_code == 403
    assert client.post("/api/v1/notebooks", headers=ada, json=BODY).status_code == 403


BODY = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": GIB}}


# Signing in to the portal


def test_signing_in_returns_to_the_page_and_keeps_a_session(client: TestClient, hub: FakeHub, admin: Headers) -> None:
    assert sign_in(client, hub, "root") == f"{PREFIX}/admin/limits"
    me = client.get(ME).json()
    assert (me["user"]["name"], me["via"]) == ("root", "session")


def test_a_code_without_its_browser_is_refused(client: TestClient, hub: FakeHub, admin: Headers) -> None:
    for query in ("code=abc&state=def", "code=abc&state=%C3%A4", ""):
        answer = client.get(f"/oauth_callback?{query}")
        assert (answer.status_code, answer.json()["field"]) == (400, "state")
    assert client.get("/oauth_callback?error=access_denied").status_code == 401


def test_a_change_from_another_sites_page_is_not_carried_out(
    client: TestClient, context: Context, hub: FakeHub, admin: Headers
) -> None:
    sign_in(client, hub, "root")
    limit = {"scope": "everyone", "resource": "cpu", "amount": 1}
    for origin in (None, "https://evil.example", "null"):
        sent = {} if origin is None else {"Origin": str(origin)}
        assert client.post("/api/v1/limits", json=limit, headers=sent).status_code == 403, origin
    own = {"Origin": context.settings.public_url}
    assert client.post("/api/v1/limits", json=limit, headers=own).status_code == 201


def test_a_session_ends_at_its_time_and_when_the_hub_signs_out(
    client: TestClient, context: Context, hub: FakeHub, clock: FakeClock, admin: Headers
) -> None:
    sign_in(client, hub, "root")
    clock.advance(context.settings.session_s + 1)
    assert client.get(ME).status_code == 401
    clock.advance(-context.settings.session_s - 1)
    assert client.get(ME).status_code == 200
    context.settings.session_check_s = 0
    hub.down = True
    assert client.get(ME).status_code == 200  # the portal goes on without the hub
    hub.down = False
    hub.tokens.clear()
    assert client.get(ME).status_code == 401


def test_an_admin_who_is_none_any_more_signs_in_again(
    client: TestClient, context: Context, hub: FakeHub, admin: Headers
) -> None:
    context.settings.session_check_s = 0
    sign_in(client, hub, "root")
    hub.accounts["root"].admin = False
    assert client.get("/api/v1/limits").status_code == 401
    sign_in(client, hub, "root")
    assert client.get("/api/v1/limits").status_code == 403


def test_signing_out_ends_the_session_in_the_store(
    client: TestClient, context: Context, hub: FakeHub, admin: Headers
) -> None:
    sign_in(client, hub, "root")
    cookie = client.cookies[cookies.SESSION]
    assert client.get("/sign-out").status_code == 405  # a link, or a picture's address, signs nobody out
    assert client.post("/sign-out").status_code == 403  # nor does another site's form
    answer = client.post("/sign-out", headers={"Origin": context.settings.public_url})
    assert answer.headers["location"] == "/hub/logout"
    with context.database.read() as session:
        assert session.scalars(select(SessionRow)).all() == []
    assert client.get(ME, headers={"Cookie": f"{cookies.SESSION}={cookie}"}).status_code == 401


def test_a_session_sealed_with_another_key_is_none(
    client: TestClient, context: Context, hub: FakeHub, admin: Headers
) -> None:
    sign_in(client, hub, "root")
    with context.database.begin() as session:
        session.scalars(select(SessionRow)).one().hub_token = Vault.open(context.settings.state / "other").seal("x")
    assert client.get(ME).status_code == 401


# Keys, uids and homes


def test_a_key_is_made_once_for_the_service_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "key"
    assert read_or_make(path, lambda: b"one") == b"one"
    assert read_or_make(path, lambda: b"two") == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["key"]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users uids of their own")


@as_root
def test_each_user_gets_a_uid_of_their_own_and_a_home_that_is_theirs(context: Context) -> None:
    with context.database.begin() as session:
        first, second = (
            users.ensure_user(session, context.settings, name=name, admin=False, groups=(), clock=context.clock)
            for name in ("ada", "bob")
        )
    assert (first.uid, second.uid) == (context.settings.uid_first, context.settings.uid_first + 1)
    home = homes.ensure_home(context.settings, first)
    seen = home.stat()
    assert (seen.st_uid, stat.S_IMODE(seen.st_mode)) == (first.uid, 0o700)
    os.chown(home, 0, 0)  # as if the first start had been cut off
    assert homes.ensure_home(context.settings, first).stat().st_uid == first.uid


@as_root
def test_a_range_of_uids_that_is_used_up_is_refused(context: Context) -> None:
    context.settings.uid_count = 1
    with context.database.begin() as session:
        users.ensure_user(session, context.settings, name="ada", admin=False, groups=(), clock=context.clock)
        with pytest.raises(Conflict, match="uid_count"):
            users.ensure_user(session, context.settings, name="bob", admin=False, groups=(), clock=context.clock)


@as_root
def test_a_user_is_mapped_to_an_account_by_an_admins_word_alone(
    client: TestClient, context: Context, admin: Headers, ada: Headers, bob: Headers
) -> None:
    nobody = 65534
    assert client.patch("/api/v1/users/ada", headers=admin, json={"uid": 0}).json()["field"] == "uid"
    assert client.patch("/api/v1/users/ada", headers=admin, json={"uid": 54321}).json()["field"] == "uid"
    answer = client.patch("/api/v1/users/ada", headers=admin, json={"uid": nobody, "why": "her account"})
    assert answer.json()["uid"] == nobody
    assert client.patch("/api/v1/users/bob", headers=admin, json={"uid": nobody}).status_code == 409
    with context.database.read() as session:
        identity = users.identity_of(context.settings, users.user_named(session, "ada"))
    assert (identity.uid, identity.gid) == (nobody, 65534)
    line = client.get("/api/v1/audit", headers=admin).json()[0]
    assert (line["action"], line["target"], line["why"], line["after"]["uid"]) == (
        "user.change",
        "ada",
        "her account",
        nobody,
    )


@contextmanager
def not_as_root(state: Path) -> Iterator[None]:
    nobody, root = 65534, os.geteuid() == 0
    if root:
        for folder in (state, *state.rglob("*")):
            os.chown(folder, nobody, nobody)
        os.seteuid(nobody)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_without_root_a_second_user_is_refused_with_the_reason(context: Context, open_folder: Path) -> None:
    settings = context.settings.model_copy(update={"state": open_folder})
    with not_as_root(open_folder), context.database.begin() as session:
        first = users.ensure_user(session, settings, name="ada", admin=True, groups=(), clock=context.clock)
        assert first.uid is None
        with pytest.raises(Forbidden) as caught:
            users.ensure_user(session, settings, name="bob", admin=False, groups=(), clock=context.clock)
    assert caught.value.code == "one_user_only"
    assert "sudo make up" in caught.value.message


def test_in_pods_many_are_served_without_root_and_without_uids(context: Context, open_folder: Path) -> None:
    told = {"platform": "kubernetes", "kubernetes": cluster_settings(), "state": open_folder}
    settings = context.settings.model_copy(update=told)
    with not_as_root(open_folder), context.database.begin() as session:
        for name in ("ada", "bob"):
            user = users.ensure_user(session, settings, name=name, admin=False, groups=(), clock=context.clock)
            assert user.uid is None
        users.set_active(session, settings, user, False, now=context.clock())
        users.set_active(session, settings, user, True, now=context.clock())
        with pytest.raises(Conflict, match="no account of a machine"):
            users.map_uid(session, settings, user, 65534)


def test_a_user_of_the_hub_is_a_row_here_with_an_id_of_its_own(context: Context, people: dict[str, Headers]) -> None:
    with context.database.read() as session:
        rows = session.scalars(select(UserRow)).all()
    assert len({row.id for row in rows}) == 3
    assert all(row.id.startswith("us-") for row in rows)


def test_a_forged_cookie_leads_to_no_other_site(client: TestClient, hub: FakeHub, people: dict[str, Headers]) -> None:
    hub.signed_in = "ada"
    away = client.get("/")
    query = urlsplit(away.headers["location"]).query
    back = hub.answer("GET", "/hub/api/oauth2/authorize", query, "", b"").headers["Location"]
    state = client.cookies["moorage-oauth-state"].strip('"').partition(":")[0]
    client.cookies.clear()
    client.cookies.set("moorage-oauth-state", f"{state}:https://elsewhere.example/", path=PREFIX)
    assert client.get(back.removeprefix(PREFIX)).headers["location"] == f"{PREFIX}/"
