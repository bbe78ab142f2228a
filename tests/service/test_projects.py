"""Projects, members, files and secrets, through the API."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from moorage.wire import WorkloadKind
from moorage_service.context import Context
from moorage_service.errors import BadRequest, TooLarge
from moorage_service.projects import archive, plain_tar, secrets
from moorage_service.store.tables import ProjectRow, UserRow
from tests.archives import tar_of
from tests.service.databases import each_database
from tests.service.world import make_world

Headers = dict[str, str]
MANIFEST = "name: Fish\npackages: [pandas>=2]\n"


def make(client: TestClient, headers: Headers, slug: str = "fish", manifest: str = MANIFEST) -> None:
    answer = client.post("/api/v1/projects", headers=headers, json={"slug": slug, "manifest": manifest})
    assert answer.status_code == 201, answer.text


def tar(**files: bytes) -> bytes:
    return tar_of({name.replace("__", "/"): content for name, content in files.items()})


@each_database
def test_its_maker_owns_a_project_and_a_build_is_queued(client: TestClient, ada: Headers) -> None:
    make(client, ada)
    project = client.get("/api/v1/projects/fish", headers=ada).json()
    assert (project["name"], project["role"], project["members"]) == (
        "Fish",
        "owner",
        [{"user": "ada", "role": "owner"}],
    )
    assert project["manifest"] == MANIFEST
    assert (project["build"]["state"], project["build"]["requested_by"]) == ("queued", "ada")
    assert project["environment"] is None


def test_the_same_key_makes_one_project(client: TestClient, ada: Headers) -> None:
    body = {"slug": "fish", "manifest": MANIFEST}
    answers = [client.post("/api/v1/projects", headers={**ada, "Idempotency-Key": "k"}, json=body) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]


def test_refusals_name_field_value_and_remedy(client: TestClient, ada: Headers) -> None:
    make(client, ada)
    for slug, manifest, field, words in (
        ("Fish!", MANIFEST, "slug", "lower-case"),
        ("a" * 31, MANIFEST, "slug", "1 to 30"),
        ("fish", MANIFEST, "slug", "Choose another"),
        ("b", "name: B\npython: '2.7'\n", "python", "Choose one of"),
        ("b", "name: B\npackages: ['-e .']\n", "packages[0]", "option"),
    ):
        answer = client.post("/api/v1/projects", headers=ada, json={"slug": slug, "manifest": manifest})
        assert 400 <= answer.status_code < 500
        assert answer.json()["field"] == field
        assert words in answer.json()["message"]


@each_database
def test_a_slug_is_one_that_the_hub_takes_as_a_server_name(client: TestClient, ada: Headers) -> None:
    for slug in ("1fish", "two--dashes", "-fish", "fish-", "Fish", "", "f" * 31, "fish\n", "new"):
        answer = client.post("/api/v1/projects", headers=ada, json={"slug": slug, "manifest": MANIFEST})
        assert (answer.status_code, answer.json()["field"]) == (400, "slug"), slug
    make(client, ada, slug="f" * 30)
    make(client, ada, slug="a-1-b")


def test_a_stranger_gets_404_by_every_route(client: TestClient, ada: Headers, bob: Headers) -> None:
    make(client, ada)
    build = client.get("/api/v1/projects/fish", headers=ada).json()["build"]["id"]
    assert client.get("/api/v1/projects", headers=bob).json() == []
    for method, path in (
        ("GET", "/projects/fish"), ("DELETE", "/projects/fish"), ("PUT", "/projects/fish/manifest"),
        ("GET", "/projects/fish/files"),
        ("PUT", "/projects/fish/files"), ("POST", "/projects/fish/builds"), ("GET", "/projects/fish/builds"),
        ("GET", f"/builds/{build}"), ("DELETE", f"/builds/{build}"), ("GET", f"/builds/{build}/log"),
        ("GET", "/projects/fish/secrets"), ("DELETE", "/projects/fish/secrets/A"), ("DELETE", "/projects/fish/members/ada"),
    ):  # fmt: skip
        content = tar(a=b"") if path.endswith("files") else MANIFEST.encode() if path.endswith("manifest") else None
        answer = client.request(method, f"/api/v1{path}", headers=bob, content=content)
        assert answer.status_code == 404, f"{method} {path}: {answer.text}"
    for path, body in (("members/bob", {"role": "owner"}), ("secrets/A", {"value": "x"})):
        assert client.put(f"/api/v1/projects/fish/{path}", headers=bob, json=body).status_code == 404


def test_roles_open_what_they_should(client: TestClient, ada: Headers, bob: Headers) -> None:
    make(client, ada)

    def role(name: str) -> None:
        answer = client.put("/api/v1/projects/fish/members/bob", headers=ada, json={"role": name})
        assert answer.status_code == 204, answer.text

    role("viewer")
    assert client.get("/api/v1/projects/fish", headers=bob).json()["role"] == "viewer"
    assert client.post("/api/v1/projects/fish/builds", headers=bob).status_code == 403
    assert client.put("/api/v1/projects/fish/manifest", headers=bob, content=MANIFEST).status_code == 403
    role("editor")
    assert client.put("/api/v1/projects/fish/manifest", headers=bob, content=MANIFEST).status_code == 204
    refused = client.put("/api/v1/projects/fish/members/ada", headers=bob, json={"role": "viewer"})
    assert refused.status_code == 403
    assert "your role is editor; this takes the role owner" in refused.json()["message"]
    assert client.delete("/api/v1/projects/fish/members/bob", headers=bob).status_code == 204  # a member may leave
    assert client.delete("/api/v1/projects/fish/members/ada", headers=ada).status_code == 409  # its only owner may not


def test_an_unknown_role_or_user_is_named(client: TestClient, ada: Headers) -> None:
    make(client, ada)
    answer = client.put("/api/v1/projects/fish/members/bob", headers=ada, json={"role": "king"})
    assert (answer.status_code, answer.json()["field"]) == (422, "role")
    answer = client.put("/api/v1/projects/fish/members/nobody", headers=ada, json={"role": "viewer"})
    assert answer.status_code == 404
    assert "'nobody'" in answer.json()["message"]


def test_files_are_kept_and_their_manifest_is_the_projects(client: TestClient, context: Context, ada: Headers) -> None:
    make(client, ada)
    content = tar(**{"lib__fish.py": b"x = 1\n", "moorage.yaml": b"name: Trout\n"})
    assert client.put("/api/v1/projects/fish/files", headers=ada, content=content).status_code == 204
    assert client.get("/api/v1/projects/fish", headers=ada).json()["name"] == "Trout"
    assert kept(context) == {"lib/fish.py": b"x = 1\n", "moorage.yaml": b"name: Trout\n"}
    assert client.put("/api/v1/projects/fish/manifest", headers=ada, content=MANIFEST).status_code == 204
    assert kept(context)["moorage.yaml"] == MANIFEST.encode()
    assert kept(context)["lib/fish.py"] == b"x = 1\n"


def test_members_and_their_notebooks_get_the_files(
    client: TestClient, context: Context, ada: Headers, bob: Headers
) -> None:
    make(client, ada)
    world = make_world(context, "bob", "bobs")
    notebook = {"Authorization": f"Bearer {world.tokens[WorkloadKind.NOTEBOOK]}"}
    answer = client.get("/api/v1/projects/bobs/files", headers=notebook)
    assert (answer.status_code, answer.content) == (204, b"")
    content = tar(**{"lib__fish.py": b"x = 1\n", "moorage.yaml": MANIFEST.encode()})
    assert client.put("/api/v1/projects/fish/files", headers=ada, content=content).status_code == 204
    assert client.get("/api/v1/projects/fish/files", headers=notebook).status_code == 404
    client.put("/api/v1/projects/fish/members/bob", headers=ada, json={"role": "viewer"})
    got = client.get("/api/v1/projects/fish/files", headers=bob)
    assert (got.status_code, got.headers["content-type"]) == (200, "application/x-tar")
    with tarfile.open(fileobj=io.BytesIO(got.content)) as archive:
        assert sorted(archive.getnames()) == ["lib/fish.py", "moorage.yaml"]


def kept(context: Context) -> dict[str, bytes]:
    with context.database.read() as session:
        return archive.read(context.settings, session.query(ProjectRow).one().files)


def test_a_bad_archive_changes_nothing(client: TestClient, context: Context, ada: Headers) -> None:
    make(client, ada)
    before = kept(context)
    link = tarfile.TarInfo("passwd")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        made.addfile(link)
    for content, words in (
        (b"no tar at all, though it is long enough to be looked at", "not a tar archive"),
        (buffer.getvalue(), "link"),
        (tar(**{"..__up": b""}), "'..'"),
        (tar(__etc__passwd=b""), "below the project"),
        (tar(**{"moorage.yaml": b"nome: x"}), "nome"),
        (tar(**{"moorage.yaml": b"\xff"}), "UTF-8"),
    ):
        answer = client.put("/api/v1/projects/fish/files", headers=ada, content=content)
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["message"]
        assert "\n" not in answer.json()["message"]
    assert kept(context) == before


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """One block, with the size as it is given."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def extended(records: bytes) -> bytes:
    return header("x", len(records), tarfile.XHDTYPE) + records + b"\0" * (-len(records) % 512)


HOSTILE = {
    "a size that leads back": header("a", 0) + header("b", -512),
    "an extended size that leads back": header("a", 0) + extended(b"13 size=-512\n") + header("b", 0),
    "a content that is not there": header("a", 1 << 40),
    "a header that describes each of its bytes": extended(b"2 " * (1 << 18) + b"=") + header("a", 0),
    "a header that is too long": extended(b"1048590 x=" + b"x" * (1 << 20)) + header("a", 0),
    "a length that is none": extended(b"\xb2 a=\n") + header("a", 0),
    "headers that describe headers": extended(b"11 path=ab\n") * 1500 + header("b", -1),
    "a sparse file": extended(b"22 GNU.sparse.major=1\n") + header("a", 0),
    "compressed": gzip.compress(header("a", 0)),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.timeout(60)
def test_an_archive_that_was_made_to_hinder_its_reader_is_refused(what: str) -> None:
    with pytest.raises(BadRequest, match=r"not a tar archive|sparse"):
        archive.unpack(HOSTILE[what])


def test_folders_of_an_archive_are_counted() -> None:
    many = b"".join(header(f"d{number}", 0, tarfile.DIRTYPE) for number in range(2 * plain_tar.MOST_MEMBERS + 1))
    with pytest.raises(TooLarge):
        archive.unpack(many)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_any_kind_of_plain_archive_is_read(form: int) -> None:
    folder = "d" * 90
    names = ["a.py", f"{folder}/{'n' * 60}.py"] + (
        [f"{folder}/{folder}/\u00e9{'n' * 150}"] if form != tarfile.USTAR_FORMAT else []
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "a commit"}) as made:
        for name in names:
            member = tarfile.TarInfo(str(Path(name).parent))
            member.type = tarfile.DIRTYPE
            made.addfile(member)
            member = tarfile.TarInfo(name)
            member.size = 700
            made.addfile(member, io.BytesIO(name.encode()[:1] * 700))
    assert archive.unpack(buffer.getvalue()) == {name: name.encode()[:1] * 700 for name in names}


def test_too_large_an_archive_is_refused_while_it_arrives(client: TestClient, ada: Headers) -> None:
    make(client, ada)

    def endless() -> object:
        for _ in range(65):
            yield b"\0" * (1 << 20)

    answer = client.put("/api/v1/projects/fish/files", headers=ada, content=endless())  # type: ignore[arg-type]
    assert answer.status_code == 413


@each_database
def test_secrets_are_written_and_never_read_back(
    client: TestClient, context: Context, ada: Headers, bob: Headers
) -> None:
    make(client, ada)
    for path, value in (("/projects/fish/secrets/KEY", "canary-project"), ("/me/secrets/MINE", "canary-mine")):
        assert client.put(f"/api/v1{path}", headers=ada, json={"value": value}).status_code == 204
    shown = client.get("/api/v1/projects/fish/secrets", headers=ada)
    assert [(one["name"], one["scope"]) for one in shown.json()] == [("KEY", "project")]
    assert "canary" not in shown.text + client.get("/api/v1/me/secrets", headers=ada).text
    assert client.get("/api/v1/me/secrets", headers=bob).json() == []
    with context.database.read() as session:
        user = session.query(UserRow).filter_by(hub_name="ada").one().id
        project = session.query(ProjectRow).one().id
        found = secrets.values(session, context.vault, user_id=user, project_id=project)
    assert found == {"KEY": "canary-project", "MINE": "canary-mine"}
    assert client.delete("/api/v1/projects/fish/secrets/KEY", headers=ada).status_code == 204
    assert client.delete("/api/v1/projects/fish/secrets/KEY", headers=ada).status_code == 404


def test_names_that_would_change_what_runs_are_refused(client: TestClient, ada: Headers) -> None:
    for name in ("LD_PRELOAD", "PATH", "PYTHONPATH", "MOORAGE_TOKEN", "BASH_ENV", "1A", "a-b", "A" * 101):
        answer = client.put(f"/api/v1/me/secrets/{name}", headers=ada, json={"value": "x"})
        assert (answer.status_code, answer.json()["field"]) == (400, "name"), name
    answer = client.put("/api/v1/me/secrets/A", headers=ada, json={"value": ""})
    assert (answer.status_code, answer.json()["field"]) == (400, "value")


def test_only_members_and_admins_change_a_project_that_is_open_to_all(
    client: TestClient, project: ProjectRow, ada: Headers, admin: Headers
) -> None:
    assert client.get("/api/v1/projects/starter", headers=ada).json()["role"] == "editor"
    refused = client.put("/api/v1/projects/starter/manifest", headers=ada, content=MANIFEST)
    assert refused.status_code == 403
    assert "of your own" in refused.json()["message"]
    assert client.put("/api/v1/projects/starter/secrets/A", headers=ada, json={"value": "x"}).status_code == 403
    assert client.get("/api/v1/projects/starter", headers=admin).json()["role"] == "owner"
    made = client.put("/api/v1/projects/starter/members/ada", headers=admin, json={"role": "editor"})
    assert made.status_code == 204
    assert client.put("/api/v1/projects/starter/manifest", headers=ada, content=MANIFEST).status_code == 204
    assert client.put("/api/v1/projects/starter/manifest", headers=admin, content=MANIFEST).status_code == 204


def test_a_deleted_project_is_gone_and_its_name_is_free(client: TestClient, ada: Headers, admin: Headers) -> None:
    make(client, ada)
    build = client.get("/api/v1/projects/fish", headers=ada).json()["build"]["id"]
    assert client.delete("/api/v1/projects/fish", headers=ada).status_code == 204
    for path in ("/projects/fish", f"/builds/{build}"):
        assert client.get(f"/api/v1{path}", headers=ada).status_code == 404
    assert client.get("/api/v1/projects", headers=admin).json() == []
    make(client, ada)
