"""Use over time as people see it: drawn, in words, as a table, and read with the keyboard."""

import shutil
from datetime import timedelta
from html import unescape

import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from playwright.sync_api import expect, sync_playwright

from moorage.wire import WorkloadKind
from moorage_service.context import Context
from moorage_service.portal import charts, words
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.service import portal_site
from tests.service.conftest import Headers
from tests.service.ledger_rows import NOW
from tests.service.portal_bench import Visitor, sign_in, text_of
from tests.service.test_portal_browser import FLAGS
from tests.service.test_use import Past

OF_ALL, MINE = "/admin/usage/over-time", "/workloads/over-time"


@pytest.fixture
def past(context: Context, people: dict[str, Headers], project: ProjectRow, clock: FakeClock) -> Past:
    clock.freeze(NOW + timedelta(minutes=30))
    return Past(context)


@pytest.fixture
def admin_at(client: TestClient, context: Context, admin: Headers, project: ProjectRow) -> Visitor:
    return sign_in(client, context, admin, "root")


def test_an_admin_sees_who_held_how_much_and_when(admin_at: Visitor, past: Past) -> None:
    past.hold("ada", 30, 6, cpu=2)
    past.hold("bob", 5, None, cpu=1)
    page = admin_at.page(OF_ALL)
    shown = text_of(page)
    for piece in ("17 core-hours", "ada 12 70.6 %", "bob 5 29.4 %", "of what the machine lends"):
        assert piece in shown, piece
    assert 'aria-label="Fri 20 Nov, 00:00 to 06:00: 11 core-hours (ada 11)"' in page
    assert 'class="tone-0"' in page
    assert f"{PREFIX}/api/v1/use?resource=cpu&by=user&days=7&timezone=UTC&format=csv" in page


def test_a_user_sees_their_own_and_no_other_name(
    client: TestClient, context: Context, past: Past, ada: Headers
) -> None:
    past.hold("ada", 3, 1, kind=WorkloadKind.NOTEBOOK)
    past.hold("bob", 3, 1, cpu=4)
    visitor = sign_in(client, context, ada, "ada")
    assert "Over time" in visitor.page("/workloads")
    page = visitor.page(f"{MINE}?by=kind&days=1")
    assert "1 core-hours" in text_of(page)
    assert "notebooks 1 100 %" in text_of(page)
    assert "bob" not in page
    assert "machine lends" not in page
    assert visitor.get(OF_ALL).status_code == 404


def test_nothing_held_is_said_in_words(admin_at: Visitor) -> None:
    assert "No CPU in this time." in text_of(admin_at.page(OF_ALL))
    assert "No clusters in this time by me." in text_of(admin_at.page(f"{MINE}?resource=clusters"))


def test_an_unknown_zone_of_a_browser_is_utc_and_an_unknown_resource_a_sentence(admin_at: Visitor) -> None:
    assert 'name="timezone" value="UTC"' in admin_at.page(f"{OF_ALL}?timezone=Mars/Base")
    refused = admin_at.get(f"{OF_ALL}?resource=coffee")
    assert refused.status_code == 400
    assert "'coffee' is not a resource" in unescape(refused.text)


def test_of_many_users_the_last_share_one_colour(admin_at: Visitor, past: Past) -> None:
    for number in range(10):
        past.hold("ada", 3, 1 + number / 10, project=f"project-{number}")
    page = admin_at.page(f"{OF_ALL}?by=project")
    assert "4 others" in text_of(page)
    assert text_of(page).count("project-0 ") == 1  # in the table of all, by itself


def test_the_columns_are_read_with_the_keyboard_in_the_readers_own_days(
    context: Context, hub: FakeHub, past: Past
) -> None:
    past.hold("ada", 7, 1, cpu=3)  # from 00:30 in Berlin
    hub.signed_in = "root"
    with sync_playwright() as playwright, portal_site.serve(context, hub) as origin:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        window = chromium.new_context(timezone_id="Europe/Berlin")
        page = window.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(f"{origin}{PREFIX}{OF_ALL}?days=30")
        page.wait_for_url("**timezone=Europe%2FBerlin")
        reads = page.locator("[data-reads]")
        expect(reads).to_contain_text("those of Europe/Berlin")
        page.get_by_role("link", name="Download CSV").focus()
        page.keyboard.press("Tab")
        expect(reads).to_have_text("Sat 21 Nov: 3 core-hours (ada 3)")
        page.keyboard.press("ArrowLeft")
        expect(reads).to_have_text("Fri 20 Nov: 0 core-hours")
        page.keyboard.press("Home")
        expect(reads).to_have_text("Fri 23 Oct: 0 core-hours")
        with page.expect_navigation():
            page.get_by_role("combobox", name="By").select_option("kind")
        expect(page.get_by_role("cell", name="clusters")).to_be_visible()
        with page.expect_download() as kept:
            page.get_by_role("link", name="Download CSV").click()
        assert kept.value.suggested_filename == "use-cpu-by-kind-30d.csv"
        chromium.close()
        assert complaints == []


@given(st.lists(st.lists(st.floats(0, 1e9), min_size=5, max_size=5), max_size=12))
@example([[0.0, 0.0, 0.0, 0.0, 2.225073858507e-311]])  # by which nothing can be divided
def test_every_piece_of_a_chart_is_inside_it_and_as_high_as_its_amount(amounts: list[list[float]]) -> None:
    series = charts.gathered([(f"u{index}", line, sum(line)) for index, line in enumerate(amounts)])
    chart = charts.stacked(series, [str(day) for day in range(5)], ["a", None, "b", None, None])
    assert len(series) <= charts.MOST_TONES
    top = charts.scale(max((column.total for column in chart.columns), default=0))[1]
    for index, column in enumerate(chart.columns):
        assert column.total == pytest.approx(sum(line[index] for line in amounts))
        high = sum(piece.height for piece in column.pieces)
        assert high == pytest.approx(column.total / top * (chart.floor - charts.TOP), abs=0.1)
        assert all(charts.TOP - 0.1 <= piece.y <= chart.floor for piece in column.pieces)
    assert chart.ticks[0] == (chart.floor, "0")


@given(st.floats(0, 1e12))
def test_a_figure_is_short_and_true(value: float) -> None:
    text = words.figure(value)
    assert len(text) <= 17
    if text != "<0.01":
        assert float(text.replace(",", "")) == pytest.approx(value, abs=max(0.005, value * 0.006))
