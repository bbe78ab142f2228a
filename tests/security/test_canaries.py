"""A value in every secret place, and work that does its best to show them: they are found nowhere."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage_images.build import BuildPlaces
from moorage_images.errors import BuildError
from moorage_images.network import hider, network_environment, without_credentials
from moorage_service.app import create_app
from moorage_service.context import Context
from moorage_service.identity import sessions
from moorage_service.settings import PREFIX, Settings, SettingsError, load
from tests.conftest import Build
from tests.fakes.hub import FakeHub
from tests.fakes.package_index import PackageIndex
from tests.security.canaries import Canaries
from tests.service.browser import sign_in
from tests.service.conftest import Headers
from tests.service.engines_bench import engine_environment, furnish, open_settings
from tests.service.jobs_bench import notebook
from tests.service.runs_bench import Service
from tests.service.test_routes import Route, routes_of
from tests.service.test_runs_clusters import KERNEL

SHOWS = (
    "import os, sys, moorage\nfrom pathlib import Path",
    "client = moorage.attach(engine='dask').connect()",
    "print(os.environ['OWN_KEY'], file=sys.stderr)\nprint(Path(os.environ['HOME']).exists())",
    "client.run(lambda: print(dict(__import__('os').environ)))",
    "from IPython.display import HTML\nHTML('<b>' + os.environ['PROJECT_KEY'] + '</b>')",
    "raise ValueError(os.environ['OWN_KEY'] + os.environ['MOORAGE_TOKEN'])",
)


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=27400, port_blocks=4) as made:
        yield made


@pytest.fixture
def canaries(context: Context, hub: FakeHub, people: dict[str, Headers]) -> Canaries:
    """What there is before anything happens; the rest is found as it is made."""
    found = Canaries()
    found.add("a user's secret", "canary-of-a-user-71f0")
    found.add("a project's secret", 'canary-of-"a project"-<&>-82a1')
    found.add("the hub's token for the service", hub.service_token)
    found.add("the service's token for the hub", sessions.spawner_token(context.settings))
    found.add("the vault's key", (context.settings.secrets / "vault-key").read_text())
    for name, headers in people.items():
        found.add(f"{name}'s token", headers["Authorization"].partition(" ")[2])
    return found


@pytest.fixture
def service(context: Context, people: dict[str, Headers], caplog: pytest.LogCaptureFixture) -> Iterator[Service]:
    caplog.set_level(logging.INFO)
    furnish(context, engine_environment(*KERNEL), "ada")
    made = Service(context, people["ada"])
    made.start()
    yield made
    made.close()


def test_no_secret_is_found_in_logs_events_outputs_process_lists_pages_or_answers(
    service: Service,
    context: Context,
    hub: FakeHub,
    people: dict[str, Headers],
    canaries: Canaries,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = context.settings.state
    own, its = canaries.values["a user's secret"], canaries.values["a project's secret"]
    for who, path, value in (
        ("ada", "/me/secrets/OWN_KEY", own),
        ("root", "/projects/starter/secrets/PROJECT_KEY", its),
    ):
        put = service.http.put(path, json={"value": value}, headers=people[who])
        assert put.status_code == 204, put.text
    with canaries.watching(context):
        run_id = service.start_run(service.promote(notebook(*SHOWS), secrets=["OWN_KEY", "PROJECT_KEY"]))
        run = service.until(run_id, "succeeded", "failed", within=120)
        assert run["phase"] == "failed"
        assert "ValueError" in str(run), run
        service.until(run_id, "failed")
    assert {"dask key", "dask agent", "workload token"} <= set(canaries.values)
    app, base = create_app(context, background=False), f"{context.settings.public_url}{PREFIX}"
    with TestClient(app, base_url=base, follow_redirects=False) as client:
        asked = ask_everything(client, hub, people, canaries, run_id=run_id, cluster_id=str(run["cluster"]))
    assert asked > 60
    canaries.look("the service's log", caplog.text)
    read = canaries.look_in_files(*(state / name for name in ("logs", "outputs", "snapshots", "database")))
    read += canaries.look_in_files(state / "workloads", named="log")
    assert read >= 6
    assert canaries.seen == set()


def ask_everything(
    client: TestClient, hub: FakeHub, people: dict[str, Headers], canaries: Canaries, *, run_id: str, cluster_id: str
) -> int:
    """Every route that answers to GET, as a user and as an admin, and refusals; returns how many answers were looked at."""
    asked = 0
    for name in ("ada", "root"):
        client.cookies.clear()
        sign_in(client, hub, name, f"{PREFIX}/")
        cookie = {"Cookie": "; ".join(f"{key}={value}" for key, value in client.cookies.items())}
        client.cookies.clear()
        job_id = client.get("/api/v1/jobs", headers=people[name]).json()[0]["id"]
        for path in paths(client, run_id, cluster_id, job_id):
            for headers in (people[name], cookie):
                answer = client.get(path, headers=headers)
                assert answer.status_code < 500, (path, answer.text)
                canaries.look(f"GET {path}", answer.content)
                canaries.look(f"GET {path}: headers", str(answer.headers.get("location")))
                asked += 1
    return asked


def paths(client: TestClient, run_id: str, cluster_id: str, job_id: str) -> list[str]:
    routes: list[Route] = [
        route for route in routes_of(client.app) if route.method == "GET" and "/dashboards" not in route.path
    ]
    ids = {
        "slug": "starter", "run_id": run_id, "cluster_id": cluster_id, "job_id": job_id, "workload_id": run_id, "build_id": "bu-none",
        "name": "notebook.ipynb", "user": "ada", "path": "moorage.css", "limit_id": "machine-cpu",
    }  # fmt: skip
    found: list[str] = []
    for route in routes:
        path = route.path.removeprefix(PREFIX)
        for name, value in ids.items():
            path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        names = ("notebook.ipynb", "notebook.html", "run.log") if "outputs/" in path else ("notebook.ipynb",)
        found += [path.replace("notebook.ipynb", name) for name in names]
    return [path for path in found if "{" not in path] + [
        f"/workloads/{cluster_id}",
        f"/api/v1/workloads/{cluster_id}/events",
    ]


# Builds, and what stands in the service's own environment


INDEX = "canary-of-the-index"
WITH_CREDENTIALS = {
    "UV_DEFAULT_INDEX": "https://reader:canary-of-the-index@packages.example/simple",
    "UV_INDEX": "own=https://reader:canary-of-the-index@own.example/simple https://canary-of-the-index@token.example/",
    "HTTPS_PROXY": "reader:canary-of-the-index@proxy.example:3128",
}


def test_the_code_of_packages_sees_no_name_and_password_of_an_index(
    places: BuildPlaces, build: Build, index: PackageIndex
) -> None:
    spy = "import os\nextra['environment'] = dict(os.environ)\n"
    index.source("spying", "1.0", spy)
    more = {"HTTPS_PROXY": WITH_CREDENTIALS["HTTPS_PROXY"], "NO_PROXY": "*"}
    lines: list[str] = []
    record = build("spying", log=lines.append, network={**places.network, **more})
    module = next((places.environments / record.digest / "lib").glob("python*/site-packages/spying.py")).read_text()
    assert "HTTPS_PROXY" in module
    assert INDEX not in module
    assert any("without its name and password" in line for line in lines)
    assert INDEX not in "\n".join(lines)


def test_a_build_that_can_not_reach_its_index_does_not_say_the_password(build: Build) -> None:
    network = {"UV_DEFAULT_INDEX": "http://reader:canary-of-the-index@127.0.0.1:9/simple", "UV_HTTP_TIMEOUT": "1"}
    lines: list[str] = []
    with pytest.raises(BuildError) as caught:
        build("tide==1.0", log=lines.append, network=network)
    assert INDEX not in caught.value.message
    assert INDEX not in "\n".join(lines)


def test_names_and_passwords_are_taken_out_of_addresses() -> None:
    clean = without_credentials(network_environment(WITH_CREDENTIALS))
    assert clean == {
        "UV_DEFAULT_INDEX": "https://packages.example/simple",
        "UV_INDEX": "own=https://own.example/simple https://token.example/",
        "HTTPS_PROXY": "proxy.example:3128",
    }
    plain = {"UV_INDEX_URL": "https://packages.example/simple", "http_proxy": "http://proxy.example:3128"}
    assert without_credentials(plain) == plain
    hide = hider(network_environment(WITH_CREDENTIALS))
    for line in (
        "error at https://reader:canary-of-the-index@packages.example/x",
        "401 for canary-of-the-index",
        "canary%2Dof-the-index",
    ):
        assert INDEX not in hide(line)
    assert hide("as reader of nothing") == "as reader of nothing"


# Settings


@pytest.mark.parametrize(
    ("section", "secret"),
    [
        ("service: {database_url: 'nonsense://me:canary-71@host/x y', reconcile_s: -1}", "canary-71"),
        ("service: {database_url: [canary-71]}", "canary-71"),
        ("service: {databse_url: 'postgresql://me:canary-71@host/x'}", "canary-71"),
    ],
)
def test_settings_that_are_refused_show_no_password(tmp_path: Path, section: str, secret: str) -> None:
    (tmp_path / "settings.yaml").write_text(section)
    with pytest.raises(SettingsError) as caught:
        load(state=tmp_path)
    assert secret not in str(caught.value)


def test_the_environment_of_workloads_holds_nothing_of_the_services(
    monkeypatch: pytest.MonkeyPatch, service: Service, context: Context
) -> None:
    """Whoever starts Moorage may have anything in their shell."""
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "UV_INDEX_OWN_PASSWORD",
        "MOORAGE_SERVICE_DATABASE_URL",
        "OAUTH_CLIENT_SECRET",
    ):
        monkeypatch.setenv(name, "canary-of-a-shell")
    code = "import os\nprint(sorted(name for name, value in os.environ.items() if 'canary' in value))"
    run_id = service.start_run(service.promote(notebook(code)))
    run: Any = service.until(run_id, "succeeded", "failed", within=120)
    assert run["phase"] == "succeeded", run
    assert "\n[]\n" in service.http.get(f"/runs/{run_id}/log").text
