"""Whatever users, projects and servers are called: what is made of their names is valid, and nobody's else.

Of (user, server) pairs there are more than 100,000 in one run, plain and hostile names mixed; with them the folders, routes, hosts and
ids that are made of each.
"""

import itertools
import random
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from moorage.origins import RESERVED, Origins, server_path
from moorage.wire import NotebookAdmission, WorkloadKind
from moorage_hub.areas.proxy import user_hosts
from moorage_service.clusters.manifests import LONGEST_RAY_NAME
from moorage_service.clusters.platforms.local import LONGEST_FOLDER
from moorage_service.context import Context
from moorage_service.errors import ServiceError
from moorage_service.identity import users
from moorage_service.jobs import launch
from moorage_service.projects.operations import _SLUG
from moorage_service.settings import Settings
from moorage_service.store.tables import ProjectRow, UserRow, new_id
from moorage_service.workloads.lifecycle import PREFIXES
from moorage_spawners import server
from moorage_spawners.launch import LocalProcesses
from tests.security.examples import FULL, examples

DOMAIN = "moorage.example.org"
PAIRS = 100_000 * (10 if FULL else 1)
HOSTNAME_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
KUBERNETES_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
PIECES = [
    "a",
    "b",
    "ada",
    "content",
    "www",
    "user",
    "hub",
    "services",
    "moorage",
    "-",
    "--",
    ".",
    "..",
    "_",
    "@",
    "~",
    "+",
    "%2F",
    "%2e",
    "%",
    "\\",
    " ",
    "\u00e9",
    "e\u0301",
    "\u0430",
    "\u0131",
    "\u212a",
    "\u00df",
    "\u5c71",
    "\U0001f4a9",
    "\u200b",
    "\u3002",
    "xn--",
    "u-",
    "r-",
    "0",
    "7",
    "A",
    "Z",
    "x" * 40,
]


def names(count: int, seed: int) -> list[str]:
    """Different names that the hub accepts: no slash, no dots alone, no blanks around."""
    choose = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        name = "".join(choose.choices(PIECES, k=choose.randint(1, 6)))
        if name == name.strip() and set(name) != {"."} and set(unquote(name)) != {"."}:
            found[name] = None
    return list(found)


def slugs(count: int) -> list[str]:
    """Different slugs that the service accepts, the hyphenated and the longest among them."""
    parts = ("a", "ada", "b2", "x" * 9, "n0")
    made = ("-".join(some) for length in (1, 2, 3) for some in itertools.product(parts, repeat=length))
    there = [slug for slug in made if _SLUG.fullmatch(slug)]
    assert len(there) >= count
    return there[:count]


def test_no_two_pairs_share_a_route_a_host_with_a_path_or_a_folder() -> None:
    projects = slugs(50)
    people = names(PAIRS // len(projects), seed=1)
    hosts = user_hosts(DOMAIN)
    routes: set[str] = set()
    places: set[tuple[str, str]] = set()
    for name in people:
        host = hosts(name, "", "user").lower()
        for slug in projects:
            path = server_path(name, slug)
            routes.add(path)
            places.add((host, path))
            # What a browser makes of it, and what our own route table reads back, is this pair and no other.
            assert [unquote(part) for part in path.split("/")] == ["", "user", name, slug, ""]
    assert len(routes) == len(places) == len(people) * len(projects) >= PAIRS


def test_no_two_users_share_an_origin_and_nobody_has_one_of_ours() -> None:
    people = names(PAIRS, seed=2)
    hook = user_hosts(DOMAIN)
    hosts = {hook(name, "", "user").lower() for name in people}
    assert len(hosts) == len(people)
    addresses = Origins(f"https://{DOMAIN}", per_user=True)
    for host in hosts:
        label = host.removesuffix(f".{DOMAIN}")
        assert HOSTNAME_LABEL.match(label), host
        assert label not in RESERVED
        assert addresses.door(host) == "user"


@pytest.mark.parametrize("kept", sorted(RESERVED))
@pytest.mark.parametrize("change", [str, str.upper, str.title, lambda text: f"{text}.", lambda text: f"{text}\u200b"])
def test_a_user_who_is_called_like_an_origin_of_ours_gets_another(kept: str, change: "type[str]") -> None:
    host = user_hosts(DOMAIN)(change(kept), "", "user")
    assert host.partition(".")[0].lower() not in RESERVED
    assert urlsplit(f"https://{host}").hostname == host


def test_ids_are_unique_and_valid_wherever_they_become_names() -> None:
    ids = [new_id(prefix) for prefix in PREFIXES.values() for _ in range(PAIRS // 3)]
    assert len(set(ids)) == len(ids)
    # A cluster's working folder is named by the end of its id, a run's by the whole: none is another's.
    assert len({each.rpartition("-")[2] for each in ids}) == len(ids)
    for each in ids:
        assert KUBERNETES_NAME.match(each)
        assert len(each) <= LONGEST_RAY_NAME
    assert len("/scratch/") + 12 < LONGEST_FOLDER


@examples(300)
@given(st.text(max_size=80), st.text(max_size=80))
def test_a_home_and_a_workloads_folders_do_not_depend_on_names(first: str, second: str) -> None:
    settings = Settings.model_construct(state=Path("/state"))
    homes = [users.home_of(settings, UserRow(id=new_id("us"), hub_name=name)) for name in (first, second)]
    assert len(set(homes)) == 2
    for home in homes:
        assert home.parent == Path("/state/homes")
        assert KUBERNETES_NAME.match(home.name)
    runs = [launch.scratch(settings, new_id(PREFIXES[WorkloadKind.RUN])) for _ in (first, second)]
    assert len(set(runs)) == 2
    logs = {LocalProcesses(Path("/state/workloads")).log_path(new_id("nb"), "server") for _ in (first, second)}
    assert len(logs) == 2


def admission(slug: str, environment: str, home: str) -> NotebookAdmission:
    return NotebookAdmission(
        workload_id="nb-x", generation=1, token="t", project=slug, environment=environment, environment_path="/e", project_files=None,
        home=home, uid=None, gid=None,
    )  # fmt: skip


def test_no_two_projects_share_an_overlay_or_jupyters_settings(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("version_info = 3.12.4\n")
    digests = ["0" * 40, "0" * 23 + "1" + "0" * 16, "a" * 40]
    found = [
        replace(admission(slug, digest, "/home"), environment_path=str(tmp_path))
        for slug in slugs(60)
        for digest in digests
    ]
    folders = {server.jupyter_folder(tmp_path, each, 60) for each in found}
    assert len(folders) == len(found)
    assert {folder.parent for folder in folders} == {tmp_path / "jupyter"}
    overlays = {server.notebook_of(each).overlay for each in found}
    assert len(overlays) == len(slugs(60))
    assert all(Path(each).parent == Path("/home/.moorage") for each in overlays)


ODD = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=4).map("".join),
    st.from_regex(r"[a-z0-9-]{1,35}\n?", fullmatch=True),
)
PLAIN = re.compile(r"[a-z][a-z0-9-]*\Z")


@examples(60)
@given(ODD)
def test_a_slug_that_is_accepted_is_a_name_everywhere(client: TestClient, ada: dict[str, str], slug: str) -> None:
    answer = client.post("/api/v1/projects", headers=ada, json={"slug": slug, "manifest": "name: x\n"})
    if answer.status_code == 201:
        assert PLAIN.match(slug)
        assert KUBERNETES_NAME.match(slug)
        assert "--" not in slug, "a double hyphen parts a name from what is put behind it"
        assert len(slug) <= 30
        assert client.get(f"/api/v1/projects/{slug}", headers=ada).json()["slug"] == slug
    else:
        assert answer.status_code in (400, 409, 422)
        assert answer.json()["field"] == "slug" or answer.status_code == 400


@examples(60)
@given(ODD)
def test_a_cluster_is_called_as_asked_or_refused(
    client: TestClient, ada: dict[str, str], project: ProjectRow, name: str
) -> None:
    body = {"project": "starter", "name": name, "spec": {"engine": "ray", "worker": {"cpu": 0.1, "memory": 1 << 29}}}
    answer = client.post("/api/v1/clusters", headers=ada, json=body)
    if answer.status_code == 201:
        assert PLAIN.match(name)
        assert len(name) <= 40
        assert answer.json()["name"] == name
        client.delete(f"/api/v1/clusters/{answer.json()['id']}", headers=ada)
    else:
        assert answer.status_code in (400, 409)
        assert answer.json().get("field") == "name" or answer.json()["code"] == "limit_refused"


@examples(100)
@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from([*PIECES, "/", "\0", "\n"]), max_size=4).map("".join)))
def test_a_user_of_any_name_has_a_home_of_their_own_or_is_refused(context: Context, name: str) -> None:
    with context.database.begin() as session:
        try:
            user = users.ensure_user(session, context.settings, name=name, admin=False, groups=(), clock=context.clock)
        except (ServiceError, UnicodeEncodeError):
            return
        assert user.hub_name == name
        assert users.home_of(context.settings, user).parent == context.settings.state / "homes"
        assert unquote(server_path(name, "p").split("/")[2]) == name
        assert set(name) != {"."}
        assert name.isprintable()
        session.rollback()


def test_names_that_look_alike_are_different_users(context: Context) -> None:
    alike = [
        "ada",
        "Ada",
        "\u0430da",
        "ada\u0301",
        unicodedata.normalize("NFC", "ada\u0301"),
        "ad\u0101",
        "ada.",
        "ada-",
    ]
    with context.database.begin() as session:
        found = [
            users.ensure_user(session, context.settings, name=name, admin=False, groups=(), clock=context.clock)
            for name in dict.fromkeys(alike)
        ]
        assert len({user.id for user in found}) == len(dict.fromkeys(alike))
        assert len({user.uid for user in found if user.uid is not None}) in (0, len(found))
