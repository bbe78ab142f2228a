"""The story of Moorage on one machine, in a browser, from the login link to coming back. The parts build on one another."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.installation import Installation
from tests.e2e.lab import Lab
from tests.e2e.portal import Portal
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(2400)
Picture = Callable[[str], None]


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


def test_2_size_create_and_use_a_ray_cluster(lab: Lab, portal: Portal, picture: Picture) -> None:
    sizing = lab.run(lab.cell_with("moorage.sizing"))
    expect(sizing.get_by_role("button", name="Create")).to_be_visible()
    picture("2-sizing")
    sizing.get_by_role("button", name="Create").click()
    # The kernel is free while the cluster comes up.
    expect(lab.add_and_run("print(6 * 7)", timeout_ms=10_000)).to_contain_text("42")
    expect(sizing).to_contain_text("ray 2.", timeout=180_000)
    picture("2-ready")
    lab.run(lab.cell_with("candidates: int"))
    lab.run(lab.cell_with("cluster.connect()"), timeout_ms=120_000)
    shown = lab.run(lab.cell_with("score = ray.remote"), timeout_ms=240_000)
    expect(shown).to_contain_text("of 24 tried")
    plot = lab.run(lab.cell_with("plt.subplots"))
    expect(plot.locator("img")).to_be_visible()
    picture("2-searched")


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


def _cluster(portal: Portal, engine: str = "ray") -> dict[str, Any]:
    alive = [one for one in portal.api("GET", "/clusters") if one["spec"]["engine"] == engine]
    assert len(alive) == 1, alive
    return dict(alive[0])
