"""The hub for real: signing in, starting and stopping notebooks, surviving its own restart."""

import os
from pathlib import Path

import httpx

from moorage_hub.login_links import LoginLinks
from moorage_spawners.shim import tree
from tests.hub.driver import UID, RunningHub
from tests.waiting import eventually


def test_a_login_link_works_once(hub: RunningHub) -> None:
    nonce = LoginLinks(hub.state).create("admin")
    with hub.browser() as browser:
        answer = browser.get("/hub/login-once", params={"token": nonce})
        assert answer.status_code == 200
        assert answer.json()["name"] == "admin"  # the portal, reached through the hub's sign-in
        assert nonce not in str(answer.url)
    with hub.browser() as other:
        answer = other.get("/hub/login-once", params={"token": nonce})
        assert answer.status_code == 403
        assert "was used already" in answer.text


def test_a_password_logs_in_and_a_wrong_one_does_not(hub: RunningHub) -> None:
    password = (hub.state / "secrets" / "password").read_text().strip()
    for given, status in ((password, 200), ("wrong", 403)):
        with hub.browser() as browser:
            page = browser.get("/hub/login")
            xsrf = browser.cookies.get("_xsrf", path="/hub/")
            form = {"username": "admin", "password": given, "_xsrf": xsrf}
            assert page.status_code == 200
            assert browser.post("/hub/login", data=form).status_code == status


def test_the_portal_gets_the_least_it_needs(hub: RunningHub) -> None:
    hub.portal_token()
    scopes = set(hub.service.tokens[-1]["user"]["scopes"])
    assert scopes == {
        "access:services!service=moorage", "start:servers!user=admin", "delete:servers!user=admin",
        "read:servers!user=admin", "read:users:name!user=admin", "read:users:groups!user=admin",
    }  # fmt: skip
    assert hub.service.tokens[-1]["user"]["admin"] is True


def test_a_notebook_starts_in_its_project_and_survives_the_hub(hub: RunningHub) -> None:
    token = hub.portal_token()
    events = hub.start_notebook(token, project="starter", cpu=1, memory="1GiB")
    words = [event["message"] for event in events]
    assert events[-1].get("ready"), words
    assert "Asking for 1 core and 1 GiB in starter" in words
    assert hub.service.requests[-1]["size"] == {"cpu": 1.0, "memory": 1 << 30, "gpu": 0}
    eventually(lambda: hub.service.observations[-1]["state"] == "ready", what="the service's hearing of it")
    assert [each["state"] for each in hub.service.observations[-2:]] == ["starting", "ready"]
    assert hub.service.observations[-1]["url"] == "/user/admin/starter/"
    with hub.signed_in() as browser:
        assert browser.get("/user/admin/starter/lab").status_code == 200
        specs = browser.get("/user/admin/starter/api/kernelspecs").json()
        assert list(specs["kernelspecs"]) == [specs["default"]]
        assert specs["kernelspecs"][specs["default"]]["spec"]["display_name"] == "Python (starter)"
        names = [entry["name"] for entry in browser.get("/user/admin/starter/api/contents").json()["content"]]
        assert names == ["hello.txt"]
        # JupyterLab's side panel asks its own server, whatever origin the portal has.
        left = {"resource": "cpu", "amount": 4.0, "used": 1.0, "left": 3.0, "rule": "r"}
        hub.service.usage = {"workloads": [], "remaining": [left]}
        panel = browser.get("/user/admin/starter/moorage/usage").json()
        assert panel["remaining"] == [left]
        (before,) = [seen for seen in hub.processes.observe_all() if not seen.gone]
        hub.service.observations.clear()
        hub.child.stop()
        hub.start()
        eventually(lambda: [each["state"] for each in hub.service.observations] == ["ready"], what="hearing it again")
        assert browser.get("/user/admin/starter/api/status").status_code == 200
    (after,) = [seen for seen in hub.processes.observe_all() if not seen.gone]
    assert after.pid == before.pid
    assert hub.api("GET", "/users/admin", token).json()["servers"]["starter"]["ready"]
    hub.stop_notebook(token)
    eventually(lambda: hub.service.observations[-1]["state"] == "gone")


def test_the_servers_process_is_the_users_and_has_its_variables(hub: RunningHub) -> None:
    token = hub.portal_token()
    assert hub.start_notebook(token)[-1].get("ready")
    (seen,) = [seen for seen in hub.processes.observe_all() if not seen.gone]
    assert seen.labels.items() >= {"kind": "notebook", "owner": "admin", "project": "starter"}.items()
    variables = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{seen.pid}/environ").read_text().split("\0") if entry
    )
    assert variables["MOORAGE_TOKEN"] == "workload-token"
    assert variables["MOORAGE_WORKLOAD"] == seen.workload_id
    assert variables["API_KEY"] == "secret"
    assert variables["HOME"] == str(hub.home)
    assert variables["PATH"].startswith(f"{hub.state}/environments/abc/bin:/usr/local/bin")  # no secret may change it
    if os.geteuid() == 0:
        assert Path(f"/proc/{seen.pid}").stat().st_uid == UID
        assert (hub.home / "starter" / "hello.txt").stat().st_uid == UID
    hub.stop_notebook(token)


def test_what_the_hub_writes_is_the_hubs_alone(hub: RunningHub) -> None:
    for folder in ("database", "secrets", "logs", "workloads"):
        for path in (hub.state / folder, *(hub.state / folder).rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path
    for path in (hub.state / "jupyter").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_project_files_are_copied_once(hub: RunningHub) -> None:
    token = hub.portal_token()
    assert hub.start_notebook(token)[-1].get("ready")
    hub.stop_notebook(token)
    (hub.home / "starter" / "hello.txt").write_text("mine")
    (hub.home / "starter" / "other.txt").write_text("too")
    assert hub.start_notebook(token)[-1].get("ready")
    hub.stop_notebook(token)
    assert (hub.home / "starter" / "hello.txt").read_text() == "mine"


def test_what_a_user_installs_for_themselves_does_not_reach_the_server(hub: RunningHub) -> None:
    """As `pip install --user tornado==...` leaves it, and whatever else Python would pick up from a home."""
    token = hub.portal_token()
    assert hub.service.admission is not None
    described = Path(hub.service.admission.environment_path) / "pyvenv.cfg"
    minor = ".".join(described.read_text().split()[-1].split(".")[:2])
    for place in (
        f".local/lib/python{minor}/site-packages",
        f".moorage/starter/lib/python{minor}/site-packages",
        "starter",
    ):
        package = hub.home / place / "tornado"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('an old tornado')")
    hub.change(environment_variables={"PYTHONPATH": str(hub.home / "starter"), "PYTHONSTARTUP": "/nowhere"})
    assert hub.start_notebook(token)[-1].get("ready")
    hub.stop_notebook(token)


def test_a_limit_is_told_in_the_services_words(hub: RunningHub) -> None:
    token = hub.portal_token()
    message = "admin may hold at most 1 cpu at once; 1 is used by the cluster ray-1. Stop it, or ask an admin."
    hub.service.refusal = (
        409,
        {
            "code": "limit_refused",
            "message": message,
            "refusal": {"rule": "r", "resource": "cpu", "amount": 1.0, "used": 1.0, "asked": 1.0},
        },
    )
    try:
        event = hub.start_notebook(token)[-1]
    finally:
        hub.service.refusal = None
    assert event["failed"]
    assert event["message"].removeprefix("Spawn failed: ").startswith(message)


def test_bad_options_are_refused_with_a_sentence(hub: RunningHub) -> None:
    token = hub.portal_token()
    asked = len(hub.service.requests)
    for options, words in (
        ({"cores": 2}, "cores is no option of a notebook; those there are: project, cpu, memory, gpu, gpu_type."),
        ({"project": "other"}, "project is 'other' but the server is named 'starter'"),
        ({"cpu": "many"}, "cpu 'many' is not a number of cores"),
    ):
        event = hub.start_notebook(token, **options)[-1]
        assert event["failed"]
        assert words in event["message"]
    assert len(hub.service.requests) == asked


def test_a_server_that_fails_to_start_is_told_and_leaves_nothing(hub: RunningHub) -> None:
    token = hub.portal_token()
    assert hub.service.admission is not None
    good = hub.service.admission.environment_path
    hub.change(environment_path="/nowhere")
    try:
        event = hub.start_notebook(token)[-1]
    finally:
        hub.change(environment_path=good)
    assert event["failed"]
    assert hub.service.observations[-1]["state"] == "failed"
    assert all(seen.gone for seen in hub.processes.observe_all())


def test_a_server_that_dies_is_noticed(hub: RunningHub) -> None:
    token = hub.portal_token()
    assert hub.start_notebook(token)[-1].get("ready")
    (seen,) = [seen for seen in hub.processes.observe_all() if not seen.gone]
    assert seen.pid is not None
    tree.signal_all({seen.pid}, 9)
    eventually(lambda: not hub.api("GET", "/users/admin", token).json()["servers"], what="the hub's notice")


def test_a_service_that_is_down_blocks_no_page_of_the_hub(hub: RunningHub) -> None:
    token = hub.portal_token()
    hub.service.down = True
    try:
        assert httpx.get(f"{hub.url}/hub/login", trust_env=False, timeout=60).status_code == 200
        hub.child.stop()
        hub.start()
        event = hub.start_notebook(token)[-1]
    finally:
        hub.service.down = False
    assert event["failed"]
    assert "service" in event["message"]
