"""JupyterLab, driven as a person does: open a notebook, run a cell, read what it shows."""

import re

from playwright.sync_api import Locator, Page, expect

START_MS = 120_000
NUMBERED = re.compile(r"\[\d+\]")


class Lab:
    """One JupyterLab page. `base` is the server's path, "/user/ada/starter/"."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base

    def open(self, path: str) -> None:
        """Opens a file of the home in the editor made for it; a notebook waits for its kernel."""
        self.page.goto(f"{self.base}lab/tree/{path}?reset")
        expect(self.page.locator("#jp-main-dock-panel")).to_be_visible(timeout=START_MS)
        if path.endswith(".ipynb"):
            expect(self.notebook).to_be_visible(timeout=START_MS)
            self.wait_idle()

    def new_notebook(self) -> None:
        """A new notebook from the launcher, with the one kernel there is."""
        self.page.goto(f"{self.base}lab?reset")
        self.page.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
        expect(self.notebook).to_be_visible(timeout=START_MS)
        self.wait_idle()

    @property
    def notebook(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def wait_idle(self, timeout_ms: int = START_MS) -> None:
        expect(self.page.get_by_text(re.compile(r"Python \(.+\) \| Idle"))).to_be_visible(timeout=timeout_ms)

    def cell(self, index: int) -> Locator:
        """The cell with that index, counted from 0, as it stands in the notebook."""
        return self.notebook.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{index}']")

    def cell_with(self, text: str) -> Locator:
        """The code cell whose source contains `text`."""
        return self.notebook.locator(".jp-CodeCell").filter(has=self.page.locator(".cm-content", has_text=text)).first

    def run(self, cell: Locator, *, timeout_ms: int = START_MS) -> Locator:
        """Runs a cell, waits until the kernel is done, and returns its output area."""
        self.start(cell)
        prompt = cell.locator(".jp-InputPrompt")
        expect(prompt).to_have_text(NUMBERED, timeout=timeout_ms)
        return cell.locator(".jp-OutputArea")

    def start(self, cell: Locator) -> None:
        """Begins to run a cell and does not wait."""
        cell.scroll_into_view_if_needed()
        cell.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Control+Enter")

    def add_and_run(self, code: str, *, timeout_ms: int = START_MS) -> Locator:
        """Adds a cell at the end, types `code`, runs it to its end; returns its output area."""
        cell = self.start_new(code)
        expect(cell.locator(".jp-InputPrompt")).to_have_text(NUMBERED, timeout=timeout_ms)
        return cell.locator(".jp-OutputArea")

    def start_new(self, code: str) -> Locator:
        """Adds a cell at the end, types `code`, begins to run it, and does not wait. Returns the cell."""
        last = self.notebook.locator(".jp-Notebook .jp-Cell").last
        last.scroll_into_view_if_needed()
        last.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("b")
        self.page.keyboard.press("Enter")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+Enter")
        return self.notebook.locator(".jp-Notebook .jp-Cell").last

    def last_output(self) -> Locator:
        return self.notebook.locator(".jp-Notebook .jp-Cell").last.locator(".jp-OutputArea")

    def restart_kernel(self) -> None:
        self.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        self.page.get_by_text("Restart Kernel…", exact=True).click()
        self.page.locator(".jp-Dialog").get_by_text("Restart", exact=True).click()
        self.wait_idle()

    def terminal(self) -> "Terminal":
        self.page.goto(f"{self.base}lab?reset")
        expect(self.page.locator(".jp-Launcher")).to_be_visible(timeout=START_MS)
        self.page.locator(".jp-LauncherCard[title='Start a new terminal session']").click()
        panel = self.page.locator(".jp-Terminal-body")
        expect(panel).to_be_visible(timeout=START_MS)
        return Terminal(self.page, panel)


class Terminal:
    """A terminal in JupyterLab. It draws on a canvas, so commands leave what they print in a file that is read as text."""

    def __init__(self, page: Page, panel: Locator) -> None:
        self.page = page
        self.panel = panel

    def type(self, command: str) -> None:
        self.panel.click()
        self.page.keyboard.type(command + "\n")
