"""Somebody with a browser: signs in, starts notebooks at the portal, reads what pages say."""

import html
import re
from collections.abc import Callable
from typing import Any

import httpx

from moorage.origins import Origins
from moorage.wire import Phase
from tests.hub.names import LoopbackNames
from tests.waiting import eventually

ENDED = {phase.value for phase in Phase if phase.ended}
SIZE = {"cpu": "0.1", "memory_gib": "1"}
_ALERT = re.compile(r'role="alert">([^<]+)<')


class Person:
    def __init__(self, addresses: Origins, name: str) -> None:
        self.name = name
        self.addresses = addresses
        self.browser = httpx.Client(follow_redirects=True, timeout=60, trust_env=False, transport=LoopbackNames())

    def sign_in(self, nonce: str) -> "Person":
        """By a login link of theirs."""
        answer = self.browser.get(self.addresses.hub("/login-once", token=nonce))
        assert answer.status_code == 200, answer.text[-2000:]
        assert str(answer.url).startswith(self.addresses.page()), answer.url
        return self

    def close(self) -> None:
        self.browser.close()

    def page(self, path: str = "/") -> httpx.Response:
        return self.browser.get(self.addresses.page(path))

    def api(self, method: str, path: str, **given: Any) -> Any:
        headers = {"Origin": self.addresses.portal}
        answer = self.browser.request(method, self.addresses.page(f"/api/v1{path}"), headers=headers, **given)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def ask(self, project: str = "starter", **size: str) -> httpx.Response:
        """Presses Start; the answer is the page that follows the start."""
        headers = {"Origin": self.addresses.portal, "Referer": self.addresses.page()}
        form = {"project": project, **SIZE, **size}
        return self.browser.post(self.addresses.page("/start"), data=form, headers=headers)

    def notebook(self, project: str = "starter") -> dict[str, Any] | None:
        """The newest one of the project, with its events."""
        found = [each for each in self.api("GET", "/notebooks?ended=true") if each["project"] == project]
        return None if not found else dict(self.api("GET", f"/notebooks/{found[0]['id']}"))

    def refusal(self, project: str = "starter") -> str | None:
        """Why the latest start came to nothing, as the page says that follows it; None while it goes on, or has led to a notebook."""
        found = _ALERT.search(self.page(f"/start/{project}").text)
        return html.unescape(found.group(1)).strip() if found else None

    def until(self, *phases: str, within: float = 60, project: str = "starter") -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            found = self.notebook(project)
            return found if found is not None and found["phase"] in phases else None

        return eventually(there, within=within, what=f"the notebook of {self.name} in {phases}")

    def stop(self, project: str = "starter") -> None:
        """Stops the newest notebook; returns when it has ended. None there, or ended already: nothing."""
        found = self.notebook(project)
        if found is not None and found["phase"] not in ENDED:
            self.api("DELETE", f"/notebooks/{found['id']}")
            self.until(*ENDED, project=project)

    def server(self, below: str = "", project: str = "starter") -> httpx.Response:
        """A page of their own notebook server, through the proxy."""
        return self.browser.get(self.addresses.server(self.name, project, below))

    def counter(self) -> int | None:
        """Of a light server: counts on, and says where it is. None: somebody else answers, such as the hub that waits for it."""
        answer = self.server("counter")
        if not answer.is_success or answer.headers.get("content-type") != "application/json":
            return None
        return int(answer.json()["counter"])


def reaches(ask: Callable[[], object]) -> bool:
    """Whether it answers; a proxy that is not there, or knows no route yet, does not."""
    try:
        return bool(ask())
    except (httpx.TransportError, AssertionError):
        return False
