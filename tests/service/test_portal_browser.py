"""The portal in a real browser: what its script adds, and that pages work without it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from moorage.wire import NotebookObservation
from moorage_service.context import Context
from moorage_service.notebooks import operations as notebooks
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow
from tests.fakes.hub import FakeHub
from tests.service import portal_site
from tests.service.conftest import Headers
from tests.service.jobs_bench import notebook
from tests.service.portal_bench import admit_notebook
from tests.waiting import eventually

FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def origin(context: Context, hub: FakeHub, people: dict[str, Headers], project: ProjectRow) -> Iterator[str]:
    hub.signed_in = "ada"
    with portal_site.serve(context, hub) as found:
        yield f"{found}{PREFIX}"


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about: blocked scripts, errors in ours. None is expected, ever."""
    return []


@pytest.fixture
def window(browser: Browser, complaints: list[str], origin: str) -> Iterator[BrowserContext]:
    """It closes before its portal does: a page that keeps itself fresh would complain of a server gone."""
    made = browser.new_context(color_scheme="light", timezone_id="Europe/Berlin", locale="en-GB")
    made.set_default_timeout(15_000)
    made.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    made.on("weberror", lambda error: complaints.append(str(error.error)))
    yield made
    made.close()
    assert complaints == []


@pytest.fixture
def page(window: BrowserContext) -> Page:
    return window.new_page()


def test_a_notebook_is_sized_started_and_opened(page: Page, origin: str, context: Context, hub: FakeHub) -> None:
    page.goto(f"{origin}/")
    page.get_by_role("button", name="Medium").click()
    expect(page.get_by_label("CPU slider")).to_have_value("2")
    page.get_by_label("CPU slider").fill("3.5")
    expect(page.get_by_label("CPU (cores)")).to_have_value("3.5")
    expect(page.locator("[data-sum]")).to_have_text("3.5 cores, 8 GiB")
    page.get_by_label("Memory (GiB)").fill("40")
    expect(page.get_by_text("You ask for 40 GiB; 32 GiB are left.")).to_be_visible()
    page.get_by_label("Memory (GiB)").fill("4")
    page.get_by_role("button", name="Start notebook").click()
    expect(page.get_by_role("heading", name="Starting starter")).to_be_visible()
    eventually(lambda: hub.servers.get(("ada", "starter"), {}).get("memory") == 4 << 30)
    workload = admit_notebook(context, "ada")
    expect(page.get_by_text("Admitted: it holds 1 cpu")).to_be_visible()
    notebooks.observe(context, workload, NotebookObservation(state="ready", url="/user/ada/starter/"))
    page.wait_for_url("**/user/ada/starter/lab")


def test_pages_keep_themselves_fresh_and_leave_alone_what_is_in_use(page: Page, origin: str, context: Context) -> None:
    page.goto(f"{origin}/")
    page.get_by_label("CPU (cores)").fill("1.25")
    page.get_by_label("CPU (cores)").focus()
    workload = admit_notebook(context, "ada")
    tile = page.get_by_role("article").filter(has_text="starter")
    expect(tile).to_be_visible()
    expect(page.locator("#left")).to_contain_text("7 cores left")
    expect(page.get_by_label("CPU (cores)")).to_have_value("1.25")
    expect(page.get_by_label("CPU (cores)")).to_be_focused()
    notebooks.observe(context, workload, NotebookObservation(state="ready", url="/user/ada/starter/"))
    expect(tile.get_by_role("link", name="Open")).to_have_attribute("href", "/user/ada/starter/lab")
    tile.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").filter(has_text="is stopping")).to_be_visible()


def test_what_was_typed_into_a_refused_form_is_still_there(page: Page, origin: str) -> None:
    page.goto(f"{origin}/projects/starter")
    page.goto(f"{origin}/projects")
    page.get_by_label("Name").fill("PATH")
    page.get_by_label("Value").fill("hunter2")
    page.get_by_role("button", name="Keep secret").click()
    expect(page.get_by_role("alert")).to_contain_text("is set by the system itself")
    expect(page.get_by_label("Name")).to_have_value("PATH")
    expect(page.get_by_label("Value")).to_have_value("")
    page.reload()
    expect(page.get_by_label("Name")).to_have_value("")


def test_light_and_dark_are_chosen_once_and_shared_with_the_hub(page: Page, origin: str) -> None:
    page.goto(f"{origin}/workloads")
    root = page.locator("html")
    expect(root).to_have_attribute("data-bs-theme", "light")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(root).to_have_attribute("data-bs-theme", "dark")
    page.goto(f"{origin}/projects")
    expect(root).to_have_attribute("data-bs-theme", "dark")
    assert page.evaluate("localStorage.getItem('jupyterhub-bs-theme')") == "dark"


def test_a_notebook_is_promoted_with_its_parameters_and_schedule_shown_first(
    page: Page, origin: str, tmp_path: Path
) -> None:
    work = tmp_path / "work.ipynb"
    work.write_bytes(notebook("print(rate)", parameters="rate: float = 0.5  # share"))
    page.goto(f"{origin}/jobs/promote")
    expect(page.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    page.get_by_label("Notebook (.ipynb)").set_input_files(work)
    page.get_by_label("rate").fill("0.75")
    page.get_by_role("button", name="Weekdays at 6").click()
    expect(page.get_by_label("Next fires")).to_contain_text("At 06:00 on Monday through Friday")
    expect(page.get_by_label("Next fires").get_by_role("listitem")).to_have_count(5)
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Promoted: work, version 1.")
    expect(page.get_by_label("rate")).to_have_value("0.75")
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("heading", name="Run of work")).to_be_visible()
    page.get_by_role("button", name="Cancel run").click()
    expect(page.get_by_role("status")).to_contain_text("asked to end")


def test_the_description_of_the_api_is_drawn_from_our_own_files(page: Page, origin: str) -> None:
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(f"{origin}/api/v1/docs")
    expect(page.get_by_text("/services/moorage/api/v1/limits", exact=True).first).to_be_visible()
    assert [
        address for address in addresses if not address.startswith((origin, "data:", origin.split("/services")[0]))
    ] == []


def test_pages_work_without_script(browser: Browser, origin: str, context: Context, hub: FakeHub) -> None:
    window = browser.new_context(java_script_enabled=False)
    page = window.new_page()
    page.goto(f"{origin}/")
    page.get_by_label("CPU (cores)").fill("2")
    page.get_by_role("button", name="Start notebook").click()
    eventually(lambda: ("ada", "starter") in hub.servers)
    assert json.loads(json.dumps(hub.servers["ada", "starter"]))["cpu"] == 2
    admit_notebook(context, "ada")
    page.goto(f"{origin}/workloads")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").filter(has_text="is stopping")).to_be_visible()
    window.close()
