"""The portal, driven as a person does, and asked over its REST API with the browser's own session."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

PREFIX = "/services/moorage"
BUILD_MS = 900_000
Picture = Callable[..., None]  # (name, at: Locator | None = None)


class Portal:
    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin

    def go(self, path: str) -> None:
        self.page.goto(f"{self.origin}{PREFIX}{path}")

    def api(self, method: str, path: str, **content: Any) -> Any:
        """A call with the session of the browser, from our own origin. Returns the parsed answer."""
        answer = self.page.request.fetch(
            f"{self.origin}{PREFIX}/api/v1{path}", method=method, headers={"Origin": self.origin}, **content
        )
        assert answer.ok, f"{method} {path}: {answer.status} {answer.text()}"
        return answer.json() if answer.text() else None

    def wait_for_environment(self, slug: str) -> None:
        """On the start page, which changes by itself when the build is done."""
        self.go("/")
        choice = self.page.locator(f"#choice-{slug}")
        expect(choice.get_by_text("environment ready")).to_be_visible(timeout=BUILD_MS)

    def start_notebook(self, slug: str, *, cpu: str = "1", memory_gib: str = "2") -> None:
        """Chooses project and size, starts, and waits until JupyterLab has opened by itself."""
        self.go("/")
        self.page.locator(f"#choice-{slug} input").check()
        self.page.get_by_label("CPU (cores)").fill(cpu)
        self.page.get_by_label("Memory (GiB)").fill(memory_gib)
        self.page.get_by_role("button", name="Start notebook").click()
        self.page.wait_for_url(f"**/user/*/{slug}/lab**", timeout=120_000)

    def stop_notebook(self, slug: str) -> None:
        self.go("/")
        tile = self.page.get_by_role("article").filter(has_text=slug)
        tile.get_by_role("button", name="Stop").click()
        expect(tile).to_have_count(0, timeout=60_000)

    def set_limit(self, user: str, cpu: str) -> None:
        """As an admin: what one user may hold at once."""
        self.go("/admin/limits")
        self.page.get_by_label("For").select_option("user")
        self.page.get_by_label("Name").fill(user)
        self.page.get_by_label("Resource").fill("cpu")
        self.page.get_by_label("Amount", exact=True).fill(cpu)
        self.page.get_by_role("button", name="Set limit").click()
