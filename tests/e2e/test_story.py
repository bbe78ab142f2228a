"""The story of Moorage on one machine, in a browser, from the login link to coming back. The parts build on one another."""

import base64
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from moorage_spawners.launch import LocalProcesses
from tests.e2e.installation import Installation
from tests.e2e.lab import Lab
from tests.e2e.portal import Picture, Portal
from tests.e2e.strangers import STRANGER, answers, as_root
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(2400)
NOTEBOOKS = Path(__file__).parent / "notebooks"


@pytest.fixture(scope="module")
def link(installation: Installation) -> str:
    return installation.up()


@pytest.fixture(scope="module")
def portal(page: Page, link: str) -> Portal:
    return Portal(page, link.split("/hub/")[0])


@pytest.fixture(scope="module")
def user(portal: Portal, page: Page, link: str) -> str:
    """Opens the one-time link: signed in, on the start page. Returns the user's name."""
    page.goto(link)
    expect(page.get_by_role("heading", name="Start a notebook")).to_be_visible()
    return str(portal.api("GET", "/me")["user"]["name"])


@pytest.fixture(scope="module")
def lab(page: Page, portal: Portal, user: str) -> Lab:
    return Lab(page, f"{portal.origin}/user/{user}/starter/")


def test_1_start_a_notebook_in_the_projects_own_environment(portal: Portal, lab: Lab, picture: Picture) -> None:
    portal.wait_for_environment("starter")
    picture("1-start-page")
    portal.start_notebook("starter")
    lab.open("ray.ipynb")
    picture("1-jupyterlab")
    shown = lab.add_and_run("import moorage, ray, sklearn\nprint('imported', ray.__version__)")
    expect(shown).to_contain_text("imported 2.")


def test_1_the_server_environment_has_nothing_of_the_project(lab: Lab) -> None:
    shown = lab.add_and_run(
        "import os, subprocess\n"
        "server = open(f'/proc/{os.getppid()}/cmdline').read().split('\\0')[0]\n"
        "for name in ('jupyterlab', 'ray', 'sklearn'):\n"
        "    print(name, subprocess.run([server, '-I', '-c', f'import {name}'], capture_output=True).returncode)"
    )
    expect(shown).to_contain_text("jupyterlab 0")
    expect(shown).to_contain_text("ray 1")
    expect(shown).to_contain_text("sklearn 1")


@as_root
def test_1_the_notebooks_port_answers_to_its_user_alone(lab: Lab, installation: Installation) -> None:
    held = LocalProcesses(installation.state / "workloads").held_ports()
    assert held
    assert all(answers(port, uid) for port, uid in held.items())
    assert not any(answers(port, STRANGER) for port in held)


def test_1_pip_install_works_and_is_marked_as_not_on_workers(lab: Lab, picture: Picture) -> None:
    shown = lab.add_and_run("%pip install -q humanize")
    expect(shown).to_contain_text("Not on workers: humanize")
    expect(lab.add_and_run("import humanize; print(humanize.intcomma(1234567))")).to_contain_text("1,234,567")
    picture("1-pip")


def test_1_old_packages_in_the_users_home_do_not_break_the_server(lab: Lab, portal: Portal) -> None:
    shown = lab.add_and_run(
        "import subprocess, sys\n"
        "folder = os.path.expanduser(f'~/.local/lib/python3.{sys.version_info.minor}/site-packages')\n"
        "done = subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--target', folder, 'tornado==6.2'],\n"
        "    env={**os.environ, 'PIP_PREFIX': ''}, capture_output=True, text=True)\n"
        "print('pip', done.returncode, done.stderr[-300:], os.listdir(folder))"
    )
    expect(shown).to_contain_text("tornado-6.2")
    portal.stop_notebook("starter")
    portal.start_notebook("starter")
    lab.open("ray.ipynb")
    expect(lab.add_and_run("print('back again')")).to_contain_text("back again")


def test_1_a_project_that_pins_packages_hostile_to_jupyterlab_starts(
    portal: Portal, page: Page, user: str, picture: Picture
) -> None:
    portal.go("/projects/new")
    page.get_by_label("Short name").fill("hostile")
    page.get_by_label("moorage.yaml").fill("name: Hostile\npackages:\n  - tornado==6.2\n  - jinja2==2.11.3\n")
    page.get_by_role("button", name="Create project").click()
    portal.wait_for_environment("hostile")
    portal.start_notebook("hostile", cpu="0.5", memory_gib="1")
    hostile = Lab(page, f"{portal.origin}/user/{user}/hostile/")
    hostile.new_notebook()
    shown = hostile.add_and_run(
        "import tornado\nfrom importlib.metadata import version\nprint(tornado.version, version('jinja2'))"
    )
    expect(shown).to_contain_text("6.2 2.11.3")
    picture("1-hostile")
    portal.stop_notebook("hostile")


def test_2_size_create_and_use_a_ray_cluster(lab: Lab, portal: Portal, picture: Picture) -> None:
    lab.open("ray.ipynb")
    sizing = lab.run(lab.cell_with("moorage.sizing"))
    expect(sizing.get_by_role("button", name="Create")).to_be_visible()
    picture("2-sizing", sizing)
    sizing.get_by_role("button", name="Create").click()
    # The kernel is free while the cluster comes up.
    expect(lab.add_and_run("print(6 * 7)", timeout_ms=10_000)).to_contain_text("42")
    expect(sizing.get_by_role("link", name="Open dashboard")).to_be_visible(timeout=180_000)
    expect(sizing).to_contain_text("ray 2.")
    picture("2-ready", sizing)
    lab.run(lab.cell_with("candidates: int"))
    lab.run(lab.cell_with("cluster.connect()"), timeout_ms=120_000)
    shown = lab.run(lab.cell_with("score = ray.remote"), timeout_ms=240_000)
    expect(shown).to_contain_text("of 24 tried")
    plot = lab.run(lab.cell_with("plt.subplots"))
    expect(plot.locator("img")).to_be_visible()
    picture("2-searched", plot)


def test_2_the_cluster_grows_with_the_work_and_shrinks_after_it(lab: Lab, portal: Portal) -> None:
    lab.start_new(
        "import time\n@ray.remote(num_cpus=1)\ndef nap(n):\n    time.sleep(4)\n    return n\n"
        "print('naps', sum(ray.get([nap.remote(n) for n in range(10)])))"
    )
    eventually(lambda: _cluster(portal)["workers"] == 2, within=120, what="a second worker")
    expect(lab.last_output()).to_contain_text("naps 45", timeout=120_000)
    eventually(lambda: _cluster(portal)["workers"] == 1, within=120, what="one worker again")


def test_2_a_restarted_kernel_finds_the_same_cluster(lab: Lab, portal: Portal, picture: Picture) -> None:
    before = _cluster(portal)["id"]
    lab.restart_kernel()
    shown = lab.add_and_run(
        "import moorage\nagain = moorage.attach()\nagain.connect()\nimport ray\n"
        "print(again.id, ray.get(ray.remote(lambda: 'from a worker').remote()))",
        timeout_ms=120_000,
    )
    expect(shown).to_contain_text(f"{before} from a worker")
    picture("2-attached-again")


def test_2_the_dashboard_is_behind_the_owners_sign_in(portal: Portal, page: Page, picture: Picture) -> None:
    address = _cluster(portal)["dashboard"]
    page.goto(portal.origin + address)
    expect(page.get_by_text("Cluster").first).to_be_visible(timeout=60_000)
    picture("2-dashboard")
    anonymous = page.context.browser.new_context()  # type: ignore[union-attr]
    answer = anonymous.request.get(portal.origin + address, max_redirects=0)
    assert answer.status in (302, 401, 404)
    anonymous.close()
    portal.api("DELETE", f"/clusters/{_cluster(portal)['id']}")


def test_3_a_dask_cluster_over_tls(lab: Lab, portal: Portal, page: Page, picture: Picture) -> None:
    lab.open("dask.ipynb")
    lab.run(lab.cell_with("first_year: int"))
    sizing = lab.run(lab.cell_with("moorage.sizing"))
    sizing.get_by_role("button", name="Create").click()
    expect(sizing.get_by_role("link", name="Open dashboard")).to_be_visible(timeout=180_000)
    lab.run(lab.cell_with("client = cluster.connect()"), timeout_ms=120_000)
    expect(lab.add_and_run("print(client.scheduler.address)")).to_contain_text("tls://")
    shown = lab.run(lab.cell_with("dd.from_map"), timeout_ms=240_000)
    expect(shown.locator("table")).to_be_visible()
    plot = lab.run(lab.cell_with("plt.subplots"))
    expect(plot.locator("img")).to_be_visible()
    picture("3-dask", plot)
    page.goto(portal.origin + _cluster(portal, "dask")["dashboard"])
    expect(page.locator("canvas").first).to_be_visible(timeout=60_000)  # its plots, drawn from its websocket
    picture("3-dashboard")
    portal.api("DELETE", f"/clusters/{_cluster(portal, 'dask')['id']}")


def test_4_promote_in_a_terminal_and_run_from_the_page(lab: Lab, portal: Portal, page: Page, picture: Picture) -> None:
    terminal = lab.terminal()
    terminal.type(
        'moorage job promote ray.ipynb --schedule "0 6 * * *" --timezone Europe/Berlin --cluster ray:1-1:1:2GiB'
    )
    job = eventually(lambda: _job(portal, "ray"), within=60, what="the promoted job")
    picture("4-terminal")
    assert job["version"]["number"] == 1
    assert set(job["version"]["files"]) == {"ray.ipynb", "search.py"}
    assert [(each["name"], each["type"]) for each in job["version"]["parameters"]] == [
        ("candidates", "int"), ("folds", "int"), ("seed", "int"),
    ]  # fmt: skip
    portal.go(f"/jobs/{job['id']}")
    expect(page.get_by_text("Europe/Berlin").first).to_be_visible()
    picture("4-job")
    page.get_by_label("candidates").fill("6")
    page.get_by_role("button", name="Run now").click()
    run = eventually(lambda: _runs(portal, job), within=30, what="the run")[0]
    portal.go(f"/runs/{run['id']}")
    expect(page.get_by_role("region", name="Cells")).to_be_visible(timeout=180_000)
    picture("4-running")
    executed = page.frame_locator("iframe[title='Executed notebook']")
    expect(executed.get_by_text("of 6 tried").first).to_be_visible(timeout=240_000)
    picture("4-run")
    ended = portal.api("GET", f"/runs/{run['id']}")
    assert ended["phase"] == "succeeded", ended
    assert ended["parameters"]["candidates"] == 6
    eventually(
        lambda: portal.api("GET", f"/clusters/{ended['cluster']}")["ended_at"], within=60, what="the run's cluster gone"
    )


def test_4_run_from_the_command_line(lab: Lab, portal: Portal) -> None:
    job = _job(portal, "ray")
    assert job is not None
    before = {run["id"] for run in _runs(portal, job)}
    lab.terminal().type("moorage job run ray --param candidates=3")
    new = eventually(lambda: [run for run in _runs(portal, job) if run["id"] not in before], within=60, what="the run")
    ended = eventually(lambda: _ended(portal, new[0]), within=240, what="the run's end")
    assert (ended["phase"], ended["parameters"]["candidates"]) == ("succeeded", 3), ended


def test_4_promote_by_the_form_and_see_what_failed(portal: Portal, page: Page, picture: Picture) -> None:
    portal.go("/jobs/promote?project=starter")
    page.get_by_label("Notebook (.ipynb)").set_input_files(NOTEBOOKS / "greet.ipynb")
    page.get_by_label("Files beside it").set_input_files(NOTEBOOKS / "greeting.py")
    expect(page.get_by_text("whom to greet")).to_be_visible()
    picture("4-promote")
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_role("heading", name="greet")).to_be_visible()
    page.get_by_label("fail").select_option("true")
    page.get_by_role("button", name="Run now").click()
    failed = page.get_by_role("region", name="What failed")
    expect(failed).to_contain_text("ValueError", timeout=120_000)
    expect(failed).to_contain_text("asked to fail")
    expect(failed).to_contain_text("In cell 4")
    picture("4-failed")


def test_4_a_changed_notebook_is_version_2_and_old_runs_keep_theirs(portal: Portal) -> None:
    job = _job(portal, "greet")
    assert job is not None
    text = (NOTEBOOKS / "greet.ipynb").read_text().replace("done", "done again")
    again = _promote(portal, text, schedule=None, secrets=[])
    assert again["version"]["number"] == 2
    assert _promote(portal, text, schedule=None, secrets=[])["version"]["number"] == 2
    assert [run["version"] for run in _runs(portal, job)] == [1]


def test_4_a_secret_reaches_the_run_and_no_output(portal: Portal, page: Page) -> None:
    portal.go("/projects/starter")
    page.get_by_label("Name", exact=True).fill("STORY_KEY")
    page.get_by_label("Value").fill("canary-7f3a")
    page.get_by_role("button", name="Keep secret").click()
    expect(page.get_by_text("STORY_KEY").first).to_be_visible()
    job = _promote(portal, (NOTEBOOKS / "greet.ipynb").read_text(), schedule=None, secrets=["STORY_KEY"])
    run = portal.api("POST", f"/jobs/{job['id']}/runs", data={"parameters": {"who": "you"}})
    ended = eventually(lambda: _ended(portal, run), within=120, what="the run's end")
    assert ended["phase"] == "succeeded", ended
    shown = {name: _output(portal, ended, name) for name in ended["outputs"]}
    assert "hello you" in shown["notebook.ipynb"]
    assert "key: ***" in shown["notebook.ipynb"]
    assert not [name for name, text in shown.items() if "canary-7f3a" in text]


def test_4_schedules_fire_while_the_server_is_stopped(portal: Portal) -> None:
    portal.stop_notebook("starter")
    schedule = {"cron": "* * * * *", "timezone": "Europe/Berlin"}
    job = _promote(portal, (NOTEBOOKS / "greet.ipynb").read_text(), schedule=schedule, secrets=[])
    fired = eventually(lambda: _fired(portal, job), within=90, what="a scheduled run")
    late = _moment(fired["created_at"]) - _moment(fired["scheduled_for"])
    print(f"the schedule fired {late.total_seconds():.3f} s after its time")
    assert eventually(lambda: _ended(portal, fired), within=120, what="its end")["phase"] == "succeeded"
    portal.api("PUT", f"/jobs/{job['id']}/schedule", data={**schedule, "paused": True})


def test_5_a_limit_refuses_in_words_and_a_raised_one_lets_go(
    lab: Lab, portal: Portal, user: str, page: Page, picture: Picture
) -> None:
    portal.start_notebook("starter")
    portal.set_limit(user, "1")
    expect(page.get_by_text(f"{user} may hold at most 1 cpu at once").first).to_be_visible()
    picture("5-limits")
    lab.open("ray.ipynb")
    sizing = lab.run(lab.cell_with("moorage.sizing"))
    sizing.get_by_role("button", name="Create").click()
    refused = sizing.get_by_role("alert")
    expect(refused).to_contain_text(f"{user} may hold at most 1 cpu at once")
    expect(refused).to_contain_text("notebook starter")
    picture("5-refused", sizing)
    job = _job(portal, "greet")
    assert job is not None
    run = portal.api("POST", f"/jobs/{job['id']}/runs", data={})
    waiting = eventually(lambda: _queued(portal, run), within=30, what="the run queued")
    assert "at most 1 cpu" in waiting["reason"]
    portal.go(f"/runs/{run['id']}")
    expect(page.get_by_text("at most 1 cpu").first).to_be_visible()
    picture("5-queued")
    portal.set_limit(user, "8")
    assert eventually(lambda: _ended(portal, run), within=120, what="the run's end")["phase"] == "succeeded"
    lab.open("ray.ipynb")
    sizing = lab.run(lab.cell_with("moorage.sizing"))
    sizing.get_by_role("button", name="Create").click()
    expect(sizing.get_by_role("link", name="Open dashboard")).to_be_visible(timeout=180_000)
    portal.go("/admin/usage")
    expect(page.get_by_text("ray-").first).to_be_visible()
    picture("5-usage")
    portal.go("/admin/health")
    expect(page.get_by_role("heading", name="Health", exact=True)).to_be_visible()
    expect(page.get_by_text("in trouble")).to_have_count(0)
    picture("5-health")


def test_6_kernels_clusters_and_schedules_come_back(
    lab: Lab, portal: Portal, page: Page, installation: Installation, picture: Picture
) -> None:
    lab.open("ray.ipynb")
    lab.add_and_run("treasure = 'still here'\ncluster = moorage.attach()\ncluster.connect()", timeout_ms=120_000)
    cluster = _cluster(portal)["id"]
    said = installation.interrupt()
    assert re.search(r"Still running: 1 cluster, 1 notebook", said), said
    page.goto(installation.up())
    expect(page.get_by_role("heading", name="Start a notebook")).to_be_visible()
    lab.open("ray.ipynb")
    shown = lab.add_and_run("import ray\nprint(treasure, ray.get(ray.remote(lambda: 'on a worker').remote()))")
    expect(shown).to_contain_text("still here on a worker")
    assert _cluster(portal)["id"] == cluster
    picture("6-back")
    job = _job(portal, "greet")
    assert job is not None
    before = len(_runs(portal, job))
    portal.api("PUT", f"/jobs/{job['id']}/schedule", data={"cron": "* * * * *", "timezone": "Europe/Berlin"})
    eventually(lambda: len(_runs(portal, job)) > before, within=90, what="another fire")


def _promote(portal: Portal, notebook: str, *, schedule: dict[str, Any] | None, secrets: list[str]) -> dict[str, Any]:
    files = {"greet.ipynb": notebook, "greeting.py": (NOTEBOOKS / "greeting.py").read_text()}
    request = {
        "project": "starter", "notebook": "greet.ipynb", "schedule": schedule, "secrets": secrets,
        "files": [{"path": path, "content": base64.b64encode(text.encode()).decode()} for path, text in files.items()],
    }  # fmt: skip
    return dict(portal.api("POST", "/jobs", data=request))


def _job(portal: Portal, name: str) -> dict[str, Any] | None:
    found = [job["id"] for job in portal.api("GET", "/jobs?project=starter") if job["name"] == name]
    return dict(portal.api("GET", f"/jobs/{found[0]}")) if found else None


def _runs(portal: Portal, job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(portal.api("GET", f"/jobs/{job['id']}/runs"))


def _fired(portal: Portal, job: dict[str, Any]) -> dict[str, Any] | None:
    return next((run for run in _runs(portal, job) if run["trigger"] == "schedule"), None)


def _ended(portal: Portal, run: dict[str, Any]) -> dict[str, Any] | None:
    now = portal.api("GET", f"/runs/{run['id']}")
    return dict(now) if now["ended_at"] else None


def _queued(portal: Portal, run: dict[str, Any]) -> dict[str, Any] | None:
    now = portal.api("GET", f"/runs/{run['id']}")
    return dict(now) if now["phase"] == "queued" and now["reason"] else None


def _output(portal: Portal, run: dict[str, Any], name: str) -> str:
    address = f"{portal.origin}/services/moorage/api/v1/runs/{run['id']}/outputs/{name}"
    if name.endswith(".html"):  # at the content origin, whose name the browser alone knows
        tab = portal.page.context.new_page()
        tab.goto(address)
        text = tab.content()
        tab.close()
        return text
    answer = portal.page.request.get(address)
    assert answer.ok, answer.status
    text = answer.text()
    return "\n".join(json.dumps(cell) for cell in json.loads(text)["cells"]) if name.endswith(".ipynb") else text


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _cluster(portal: Portal, engine: str = "ray") -> dict[str, Any]:
    alive = [one for one in portal.api("GET", "/clusters") if one["spec"]["engine"] == engine]
    assert len(alive) == 1, alive
    return dict(alive[0])
