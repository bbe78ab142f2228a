"""In a real browser: what a notebook brings along (outputs, names, errors) is shown, and runs nowhere near the portal."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from moorage.wire import Phase
from moorage_service.context import Context
from moorage_service.jobs import outputs
from moorage_service.settings import PREFIX, Inventory, Rates, Settings
from moorage_service.store.tables import JobRow, JobVersionRow, RunRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.fakes.hub import FakeHub
from tests.service import portal_site
from tests.service.conftest import Headers
from tests.service.test_portal_browser import FLAGS
from tests.service.world import make_world

HOSTILE = "<img src=x onerror=\"window.pwned='{where}'\"><script>window.pwned='{where}'</script>"

# What a cell's output would do: read cookies, call the service as whoever looks, reach the page around it, lead it away.
OUTPUT = """<!doctype html><p id="told">nothing</p><script>
const told = {ran: true, origin: window.origin};
const attempt = async (name, what) => { try { await what(); told[name] = 'done'; } catch (error) { told[name] = error.name; } };
(async () => {
  await attempt('cookie', () => { if (!document.cookie) throw {name: 'none'}; });
  await attempt('portal', () => fetch('PORTAL/services/moorage/api/v1/me', {credentials: 'include'}));
  await attempt('own', () => fetch('/services/moorage/api/v1/me', {credentials: 'include'}));
  if (top !== self) await attempt('parent', () => parent.document.title);
  if (top !== self) await attempt('top', () => { top.location = 'PORTAL/services/moorage/projects'; });
  await attempt('popup', () => { if (!window.open('PORTAL/services/moorage/')) throw {name: 'blocked'}; });
  await attempt('storage', () => localStorage.getItem('x'));
  document.getElementById('told').textContent = JSON.stringify(told);
})();
</script>"""


@pytest.fixture(params=["one", "per-user"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return Settings(
        state=tmp_path / "state", inventory=Inventory(cpu=8, memory=32 << 30, gpus={}), hub_token_cache_s=0, seed_starter=False,
        public_url="http://localhost:8000", origins=request.param, rates=Rates(enabled=False),
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def portal(context: Context, hub: FakeHub, people: dict[str, Headers]) -> Iterator[str]:
    assert "ada" in people
    hub.signed_in = "ada"
    host = "localhost" if context.settings.origins == "per-user" else "127.0.0.1"
    with portal_site.serve(context, hub, host) as origin:
        yield origin


@pytest.fixture
def run(context: Context, portal: str) -> str:
    """A run that failed, of a job, notebook, cells and error that are all hostile."""
    world = make_world(context, "ada", "adas")
    with context.database.begin() as session:
        now = context.clock()
        session.get_one(JobRow, world.job).name = HOSTILE.format(where="job")[:200]
        workload, row = session.get_one(WorkloadRow, world.run), session.get_one(RunRow, world.run)
        workload.name = HOSTILE.format(where="name")[:80]
        version = session.get_one(JobVersionRow, row.version_id)
        version.notebook, version.files = HOSTILE.format(where="file")[:200], [HOSTILE.format(where="files")[:200]]
        row.parameters = {HOSTILE.format(where="parameter"): HOSTILE.format(where="value")}
        row.progress = {
            "sequence": 1, "error_name": HOSTILE.format(where="error"), "error_value": HOSTILE.format(where="message"),
            "error_cell": 0, "traceback": f"\\x1b]8;;javascript:alert(1)\\x07{HOSTILE.format(where='trace')}",
            "cells": [{"index": 0, "state": "failed", "source": HOSTILE.format(where="cell")}],
        }  # fmt: skip
        lifecycle.ended(session, workload, Phase.FAILED, now=now, reason=HOSTILE.format(where="reason"))
    folder = outputs.folder(context.settings, world.run)
    folder.mkdir(parents=True)
    (folder / "notebook.html").write_text(OUTPUT.replace("PORTAL", portal))
    (folder / "run.log").write_text(HOSTILE.format(where="log"))
    return world.run


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def harmless(told: dict[str, object]) -> None:
    assert told.pop("ran") is True
    assert told.pop("origin") == "null"  # nobody's, in the sandbox
    assert set(told) == {"cookie", "portal", "own", "parent", "top", "popup", "storage"}
    assert "done" not in told.values(), told


def test_a_notebook_runs_in_no_origin_of_ours(context: Context, portal: str, run: str, page: Page) -> None:
    page.goto(f"{portal}{PREFIX}/runs/{run}")
    frame = page.frame_locator("iframe[title='Executed notebook']").locator("#told")
    expect(frame).to_contain_text("storage")
    harmless(json.loads(frame.text_content() or ""))
    there = next(each for each in page.frames if each != page.main_frame)
    content = context.settings.addresses.content
    assert there.url.startswith(f"{content or portal}{PREFIX}/")
    assert page.url == f"{portal}{PREFIX}/runs/{run}"  # it was not led away
    for where in ("message", "trace", "cell", "log", "reason", "value"):
        expect(page.get_by_text(f"window.pwned='{where}'").first).to_be_attached()  # shown, as text
    assert page.evaluate("window.pwned") is None
    for path in (f"/jobs/{jobs_of(context)[0]}", "/jobs", f"/workloads/{run}"):
        page.goto(f"{portal}{PREFIX}{path}")
        expect(page.get_by_text("window.pwned=").first).to_be_attached()
        assert page.evaluate("window.pwned") is None, path
    # Nor in a tab of its own.
    page.goto(f"{portal}{PREFIX}/api/v1/runs/{run}/outputs/notebook.html")
    expect(page.locator("#told")).to_contain_text("storage")
    told = json.loads(page.locator("#told").text_content() or "")
    harmless({**told, "parent": "itself", "top": "itself"})


def jobs_of(context: Context) -> list[str]:
    with context.database.read() as session:
        return [row.id for row in session.query(JobRow)]
