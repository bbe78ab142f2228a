"""Project pages: making one, its environment and builds, members and secrets; and the form for a cluster."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.projects import builds
from moorage_service.settings import PREFIX
from moorage_service.store.tables import BuildRow, EnvironmentRow, ProjectRow
from tests.service.conftest import Headers
from tests.service.portal_bench import SMALL, Visitor, sign_in, text_of

MANIFEST = "name: Churn\r\npackages:\r\n  - pandas\r\n"
AT = "/projects/churn"


@pytest.fixture
def ada_at(client: TestClient, context: Context, ada: Headers, project: ProjectRow) -> Visitor:
    return sign_in(client, context, ada, "ada")


@pytest.fixture
def bob_at(client: TestClient, context: Context, bob: Headers) -> Visitor:
    return sign_in(client, context, bob, "bob")


@pytest.fixture
def churn(ada_at: Visitor) -> str:
    ada_at.send("/projects/new", {"slug": "churn", "manifest": MANIFEST}, referer="/projects/new")
    return AT


def test_a_new_project_is_made_and_its_build_asked_for(ada_at: Visitor) -> None:
    assert "Create project" in ada_at.page("/projects/new")
    page = text_of(ada_at.send("/projects/new", {"slug": "churn", "manifest": MANIFEST}, referer="/projects/new"))
    assert "Project churn is made" in page
    for piece in ("you are an owner", "build queued", "asked for by ada", "ada owner"):
        assert piece in page, piece


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"slug": "Not Good"}, "slug: 'Not Good' can't be used."),
        ({"slug": "starter"}, "slug: a project 'starter' exists already."),
        ({"manifest": "nmae: x"}, "nmae"),
        ({"manifest": "name: [1"}, "moorage.yaml"),
    ],
)
def test_a_project_that_cannot_be_comes_back_with_the_sentence_and_what_was_typed(
    ada_at: Visitor, fields: dict[str, str], sentence: str
) -> None:
    given = {"slug": "churn", "manifest": MANIFEST, **fields}
    answer = ada_at.post("/projects/new", given, referer="/projects/new")
    assert 400 <= answer.status_code < 500
    assert sentence in text_of(answer.text)
    assert f'value="{given["slug"]}"' in answer.text
    assert [each["slug"] for each in ada_at.get("/api/v1/projects").json()] == ["starter"]


def test_the_environment_shows_python_packages_and_digest(ada_at: Visitor) -> None:
    page = text_of(ada_at.page("/projects/starter"))
    for piece in ("environment ready", "3.11.2", "sha256-0123456789abcdef", "ray 2.60.0", "Start notebook"):
        assert piece in page, piece


def test_a_failed_build_shows_its_sentence_and_its_log(ada_at: Visitor, churn: str) -> None:
    with ada_at.context.database.begin() as session:
        row = session.scalars(select(BuildRow)).one()
        row.state, row.error, row.started_at = "failed", "torch 9.9 does not exist.", ada_at.context.clock()
        row.ended_at = ada_at.context.clock()
        path = builds.log_path(ada_at.context.settings, row.id)
    path.parent.mkdir(parents=True)
    path.write_text("\x1b[31mNo solution found\x1b[0m <b>\n")
    page = ada_at.get(churn).text
    assert "torch 9.9 does not exist." in page
    assert "No solution found &lt;b&gt;" in page
    assert "\x1b" not in page


def test_moorage_yaml_is_saved_and_built(ada_at: Visitor, churn: str) -> None:
    text = "name: Churn\r\npackages:\r\n  - numpy\r\n"
    assert "Saved." in ada_at.send(f"{churn}/manifest", {"manifest": text}, referer=churn)
    with ada_at.context.database.read() as session:
        saved = session.scalars(select(ProjectRow).where(ProjectRow.slug == "churn")).one().manifest
        assert saved == text.replace("\r\n", "\n")
        assert len(session.scalars(select(BuildRow)).all()) == 1
    assert "a build was asked for" in ada_at.send(
        f"{churn}/manifest", {"manifest": text, "then": "build"}, referer=churn
    )
    with ada_at.context.database.read() as session:
        assert len(session.scalars(select(BuildRow)).all()) == 2
    assert "python" in ada_at.send(f"{churn}/manifest", {"manifest": "name: x\npython: '1.5'"}, referer=churn)


def test_a_build_is_asked_for_and_cancelled(ada_at: Visitor, churn: str) -> None:
    with ada_at.context.database.read() as session:
        build = session.scalars(select(BuildRow)).one().id
    ada_at.send(f"{churn}/builds/{build}/cancel", referer=churn)
    assert "cancelled before it began" in ada_at.page(churn)
    ada_at.send(f"{churn}/build", referer=churn)
    assert "queued" in text_of(ada_at.page(churn))


def test_members_see_what_their_role_lets_them(ada_at: Visitor, bob_at: Visitor, churn: str) -> None:
    assert bob_at.get(churn).status_code == 404
    assert "bob is a viewer now." in ada_at.send(f"{churn}/members", {"user": "bob", "role": "viewer"}, referer=churn)
    seen = text_of(bob_at.page(churn))
    assert "you are a viewer" in seen
    for button in ("Save and build", "Keep secret", "Set member", "Delete project"):
        assert button not in seen, button
    assert "this takes the role editor" in bob_at.send(f"{churn}/build", referer=churn)
    ada_at.send(f"{churn}/members", {"user": "bob", "role": "editor"}, referer=churn)
    assert "Save and build" in bob_at.page(churn)
    assert "There is no user 'eve'" in ada_at.send(f"{churn}/members", {"user": "eve", "role": "editor"}, referer=churn)
    assert "'king' is no role" in ada_at.send(f"{churn}/members", {"user": "bob", "role": "king"}, referer=churn)
    assert "only owner" in ada_at.send(f"{churn}/members/ada/remove", referer=churn)
    assert "You have left project churn." in bob_at.send(f"{churn}/members/bob/remove", referer=churn)


def test_an_open_project_is_not_offered_to_be_changed(ada_at: Visitor) -> None:
    page = ada_at.page("/projects/starter")
    assert "Make one of your own" in page
    assert "Save and build" not in page


def test_secrets_are_written_and_never_shown(ada_at: Visitor, churn: str) -> None:
    for at, back in ((f"{churn}/secrets", churn), ("/secrets", "/projects")):
        page = ada_at.send(at, {"name": "API_KEY", "value": "hunter2-hunter2"}, referer=back)
        assert "Secret API_KEY is kept." in page
        assert "hunter2" not in page
        assert "hunter2" not in ada_at.get(back).text
        assert "can't be the name" in ada_at.send(at, {"name": "api key", "value": "x"}, referer=back)
        assert "is removed." in ada_at.send(f"{at}/API_KEY/remove", referer=back)
        assert "There is no secret" in ada_at.send(f"{at}/API_KEY/remove", referer=back)


def test_a_project_is_deleted(ada_at: Visitor, churn: str) -> None:
    assert "Project churn is deleted." in ada_at.send(f"{churn}/delete", referer=churn)
    assert ada_at.get(churn).status_code == 404


def test_the_cluster_form_says_what_lacks_and_refuses_in_a_sentence(ada_at: Visitor) -> None:
    with ada_at.context.database.begin() as session:
        session.scalars(select(EnvironmentRow)).one().packages = {"ray": "2.60.0", "aiohttp-cors": "0.8"}
    page = text_of(ada_at.page("/clusters/new"))
    assert "moorage.yaml" in page, "the engine that is missing, with the remedy"
    form = {"project": "starter", "engine": "dask", "min_workers": "1", "max_workers": "2", **SMALL}
    refused = ada_at.post("/clusters/new", form, referer="/clusters/new")
    assert refused.status_code == 409
    assert "Create cluster" in refused.text
    assert "is none" in ada_at.send("/clusters/new", {**form, "engine": "spark"}, referer="/clusters/new")
    assert "is not a whole number" in ada_at.send(
        "/clusters/new", {**form, "max_workers": "1.5"}, referer="/clusters/new"
    )


def test_a_cluster_is_made_shown_and_stopped(ada_at: Visitor) -> None:
    with ada_at.context.database.begin() as session:
        session.scalars(select(EnvironmentRow)).one().packages = {"ray": "2.60.0", "aiohttp-cors": "0.8", "grpcio": "1"}
    form = {"project": "starter", "engine": "ray", "min_workers": "1", "max_workers": "3", "name": "mine", **SMALL}
    answer = ada_at.post("/clusters/new", form, referer="/clusters/new")
    assert answer.status_code == 303, text_of(answer.text)
    at = answer.headers["location"].removeprefix(PREFIX)
    page = text_of(ada_at.page(at))
    for piece in (
        "Cluster mine",
        "pending",
        "at least \N{EN DASH} at most",
        "Each worker 1 core, 2 GiB",
        "Admitted at its largest size",
        "moorage.attach(",
    ):
        assert piece in page, piece
    assert "is stopping" in ada_at.send(f"/workloads/{at.rpartition('/')[2]}/stop", referer=at)
    too_big = ada_at.post("/clusters/new", {**form, "name": "", "max_workers": "9"}, referer="/clusters/new")
    assert (too_big.status_code, "Refused by the limit" in too_big.text) == (409, True)
    assert 'value="9"' in too_big.text, "what was asked for stays in the form"


def test_a_cluster_s_page_says_when_it_ends_and_keeps_it(ada_at: Visitor) -> None:
    form = {
        "project": "starter",
        "engine": "ray",
        "min_workers": "1",
        "max_workers": "1",
        "cpu": "1",
        "memory_gib": "1",
    }
    made = ada_at.post("/clusters/new", {**form, "on_notebook_end": "stop"}, referer="/clusters/new")
    path = made.headers["location"].removeprefix(PREFIX)
    assert "Without notebook ends" in " ".join(text_of(ada_at.page(path)).split())
    assert "It goes on when its notebook ends." in ada_at.send(
        f"{path}/keep", {"on_notebook_end": "keep"}, referer=path
    )
    assert "No clock ends it for 8 h." in ada_at.send(f"{path}/keep", {"hours": "8"}, referer=path)
    assert "Kept until" in text_of(ada_at.page(path))
    assert "'soon' is not a number" in ada_at.send(f"{path}/keep", {"hours": "soon"}, referer=path)
    assert "is neither" in ada_at.send(f"{path}/keep", {"on_notebook_end": "burn"}, referer=path)
