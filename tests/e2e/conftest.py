"""One installation and one browser for the whole story; a screenshot of every step is kept in tests/e2e/screenshots.

They end with the story's module, for Playwright keeps a loop running as long as it lives.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from moorage_spawners.launch import PortWall
from tests.e2e.installation import Installation
from tests.e2e.portal import Picture

SCREENSHOTS = Path(__file__).parent / "screenshots"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    # Not below pytest's own folder, which is 0700: users of other uids have to pass. Short, for Ray's sockets.
    # MOORAGE_E2E_STATE keeps it between two runs, for whoever works on the story.
    kept = os.environ.get("MOORAGE_E2E_STATE")
    state = Path(kept or tempfile.mkdtemp(prefix="moorage-", dir="/tmp"))
    one = Installation(state)
    one.configure(service={"inventory": {"cpu": 12, "memory": 20 << 30}, "scale_idle_s": 4})
    try:
        yield one
    finally:
        one.down()
        assert not PortWall(state).stands(), "`make down` takes the rules for ports away"
        if kept is None:
            shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """The user's one tab, signed in by the first step of the story."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(30_000)
    return context.new_page()


@pytest.fixture(scope="module")
def told_of() -> str:
    """What the names of pictures begin with, for a story that is told elsewhere, too."""
    return ""


@pytest.fixture(scope="module")
def picture(page: Page, told_of: str) -> Picture:
    """Takes a screenshot under a name, of the part of the page where `at` is: picture("2-ready", widget)."""
    SCREENSHOTS.mkdir(exist_ok=True)

    def take(name: str, at: Locator | None = None) -> None:
        if at is not None:
            at.scroll_into_view_if_needed()
        page.screenshot(path=SCREENSHOTS / f"{told_of}{name}.png")

    return take
