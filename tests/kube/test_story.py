"""The story on the chart, in a browser: the first part's own steps, then limits, and what comes back when parts die.

Its first steps are those of one machine, the same code.
"""

# ruff: noqa: F401, F811
import json

import pytest
from playwright.sync_api import Error, Page, expect

from tests.e2e import test_story as story
from tests.e2e.conftest import browser, page, picture  # this module takes fixtures of the story for its own
from tests.e2e.lab import Lab
from tests.e2e.portal import Picture, Portal
from tests.e2e.test_story import lab, portal, user
from tests.kube.release import PARTS, Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def link(release: Release) -> str:
    return release.link()


@pytest.fixture(scope="module")
def told_of() -> str:
    return "kubernetes-"


# Of the story on one machine the steps that a cluster is for so far, in their order.
test_1_start_a_notebook_in_the_projects_own_environment = story.test_1_start_a_notebook_in_the_projects_own_environment
test_1_the_server_environment_has_nothing_of_the_project = (
    story.test_1_the_server_environment_has_nothing_of_the_project
)
test_1_pip_install_works_and_is_marked_as_not_on_workers = (
    story.test_1_pip_install_works_and_is_marked_as_not_on_workers
)
test_1_old_packages_do_not_break_the_server = story.test_1_old_packages_in_the_users_home_do_not_break_the_server
test_1_a_project_that_pins_packages_hostile_to_jupyterlab_starts = (
    story.test_1_a_project_that_pins_packages_hostile_to_jupyterlab_starts
)


def test_2_a_limit_refuses_in_words_and_a_raised_one_lets_go(
    portal: Portal, page: Page, user: str, picture: Picture
) -> None:
    portal.stop_notebook("starter")
    portal.set_limit(user, "1")
    portal.go("/")
    page.locator("#choice-starter input").check()
    page.get_by_label("CPU (cores)").fill("2")
    page.get_by_role("button", name="Start notebook").click()
    refused = page.get_by_role("alert")
    expect(refused).to_contain_text(f"{user} may hold at most 1 cpu at once")
    picture("2-refused")
    portal.set_limit(user, "8")
    portal.start_notebook("starter")


@pytest.mark.parametrize("part", PARTS)
def test_3_a_kernel_lives_on_when_a_part_dies(release: Release, portal: Portal, lab: Lab, part: str) -> None:
    lab.open("ray.ipynb")
    lab.add_and_run(f"treasure = 'kept from {part}'")
    pods = _pods(release)
    release.kill(part)
    eventually(lambda: _knows(portal), within=120, what="the same session")
    lab.open("ray.ipynb")
    expect(lab.add_and_run("print(treasure)")).to_contain_text(f"kept from {part}")
    assert _pods(release) == pods


def test_4_the_check_finds_nothing_wrong(release: Release, portal: Portal, page: Page, picture: Picture) -> None:
    assert portal.api("GET", "/check")["findings"] == []
    portal.go("/admin/health")
    expect(page.get_by_role("heading", name="Health", exact=True)).to_be_visible()
    expect(page.get_by_text("in trouble")).to_have_count(0)
    picture("4-health")
    said = release.kubectl(
        "exec", "-n", release.namespace, "deploy/moorage-service", "-c", "service", "--", "moorage", "admin", "check"
    )
    assert said.startswith("Sound: 1 live workload")


def test_5_a_stopped_notebook_leaves_its_home_and_nothing_else(release: Release, portal: Portal) -> None:
    (namespace,) = {namespace for namespace, _ in _pods(release)}
    portal.stop_notebook("starter")
    eventually(lambda: not _pods(release), within=60, what="no pod of a notebook")
    left = [each["metadata"]["name"] for each in release.kubectl.list("secrets", namespace)]
    assert [name for name in left if name.startswith("nb-")] == []
    assert [each["metadata"]["name"] for each in release.kubectl.list("persistentvolumeclaims", namespace)] == ["home"]


def _pods(release: Release) -> set[tuple[str, str]]:
    """Namespace and uid of each notebook's."""
    found = json.loads(release.kubectl("get", "pods", "-A", "-l", "moorage.dev/kind=notebook", "-o", "json"))["items"]
    return {(pod["metadata"]["namespace"], pod["metadata"]["uid"]) for pod in found}


def _knows(portal: Portal) -> bool:
    try:
        return bool(portal.api("GET", "/me"))
    except (AssertionError, Error):  # between two parts a browser is told anything
        return False
