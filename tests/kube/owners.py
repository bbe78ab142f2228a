"""Owners of notebooks at the release, over HTTP: they sign in, start them at the portal, and read what its pages say.

They go straight to the proxy's pod, so they need neither a forwarded port nor a kubelet.
"""

import html
from collections.abc import Callable
from typing import Any

import httpx

from moorage.origins import PREFIX
from moorage.wire import Phase
from moorage_spawners.launch.names import namespace_name, pod_name
from tests.archives import tar_of
from tests.kube.kubectl import Object
from tests.kube.release import NAME, Release
from tests.waiting import eventually

PROJECT = "skiff"
MANIFEST = f"name: {PROJECT}\npackages: []\n"  # a kernel and nothing else: small to build and to pull
FILES = {"hello.txt": b"hello"}
ENDED = tuple(phase.value for phase in Phase if phase.ended)
BUILT, STARTED, SOON = 900.0, 180.0, 60.0
A_LOOK_S = 0.25


class Door(httpx.HTTPTransport):
    """Every name leads to the proxy's pod; the Host header and the cookies are those of the name."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        there = httpx.Request(
            request.method, request.url.copy_with(host=self._address, port=8000), headers=request.headers, stream=request.stream,
            extensions=request.extensions,
        )  # fmt: skip
        return super().handle_request(there)


class Owner:
    """Signed in. `name` is the hub's."""

    def __init__(self, release: Release, name: str) -> None:
        self.name = name
        self.release = release
        door = Door(release.pod("proxy")["status"]["podIP"])
        self.browser = httpx.Client(
            base_url=release.url, follow_redirects=True, timeout=60, transport=door, headers={"Origin": release.url}
        )
        link = f"/hub/login-once?token={release.links(name)[name]}"
        assert self.browser.get(link).status_code == 200
        self.id = str(self.api("GET", "/me")["user"]["id"])
        self.namespace = namespace_name(NAME, self.id, name)

    def api(self, method: str, path: str, **given: Any) -> Any:
        answer = self.browser.request(method, f"{PREFIX}/api/v1{path}", **given)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def page(self, path: str) -> str:
        """What somebody reads there."""
        return html.unescape(self.browser.get(f"{PREFIX}{path}").raise_for_status().text)

    def start(self, *, memory_gib: float = 0.5) -> str:
        """Presses Start; the id of the notebook that was admitted for it."""
        before = {each["id"] for each in self.notebooks()}
        form = {"project": PROJECT, "cpu": "0.1", "memory_gib": f"{memory_gib:g}"}
        answer = self.browser.post(f"{PREFIX}/start", data=form)
        assert answer.is_success, answer.text

        def admitted() -> str | None:
            return next((str(each["id"]) for each in self.notebooks() if each["id"] not in before), None)

        return eventually(admitted, within=SOON, what=f"a notebook of {self.name}", every=A_LOOK_S)

    def ready(self) -> str:
        """A new notebook that answers; its id."""
        made = self.start()
        self.until(made, "ready", within=STARTED)
        return made

    def notebooks(self) -> list[dict[str, Any]]:
        """Newest first; those that have ended, too."""
        found: list[dict[str, Any]] = self.api("GET", "/notebooks?ended=true")
        return found

    def notebook(self, notebook: str) -> dict[str, Any]:
        """With its events."""
        found: dict[str, Any] = self.api("GET", f"/notebooks/{notebook}")
        return found

    def until(self, notebook: str, *phases: str, within: float = SOON) -> dict[str, Any]:
        """One that ends in another phase will not come to these."""

        def reached(seen: dict[str, Any]) -> bool:
            assert seen["phase"] in phases or seen["phase"] not in ENDED, seen
            return seen["phase"] in phases

        return self.when(notebook, reached, within=within, what=f"{phases}")

    def told(self, notebook: str, words: str, *, within: float = SOON) -> dict[str, Any]:
        """The notebook once its reason has these words; its page has them, too."""
        found = self.when(notebook, lambda seen: words in (seen["reason"] or ""), within=within, what=f"{words!r}")
        assert words in self.page(f"/workloads/{notebook}")
        return found

    def when(
        self, notebook: str, condition: Callable[[dict[str, Any]], bool], *, within: float, what: str
    ) -> dict[str, Any]:
        last: list[dict[str, Any]] = []

        def ask() -> dict[str, Any] | None:
            last[:] = [self.notebook(notebook)]
            return last[0] if condition(last[0]) else None

        try:
            return eventually(ask, within=within, what=f"{what} of {self.name}'s notebook", every=A_LOOK_S)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{last}\n{self.pod(notebook)}") from late

    def stop(self, notebook: str) -> None:
        """Ended when it returns."""
        self.api("DELETE", f"/notebooks/{notebook}")
        self.until(notebook, *ENDED)

    def pod(self, notebook: str) -> Object | None:
        return self.release.kubectl.get("pod", pod_name(notebook, 1), self.namespace)

    def execute(self, notebook: str, *argv: str) -> str:
        """In its pod, beside the server; what it wrote. Raises KubectlRefused when it fails."""
        return self.release.kubectl("exec", "-n", self.namespace, pod_name(notebook, 1), "--", *argv)

    def let_go(self, notebook: str) -> dict[str, Any]:
        """The notebook when it holds nothing any more; at no moment before was its pod still there."""

        def ask() -> dict[str, Any] | None:
            found = self.notebook(notebook)
            return found if not found["holds"] else None

        found = eventually(ask, within=2 * SOON, what="the end of what it holds", every=A_LOOK_S)
        assert is_gone(self.pod(notebook)), "what it held was given back while its pod was there"
        return found


class Owners:
    """Each signed in once, and a member of the one project, whose environment is built."""

    def __init__(self, release: Release) -> None:
        self._known: dict[str, Owner] = {}
        self.release = release
        self.admin = self._known["admin"] = Owner(release, "admin")
        if PROJECT not in {each["slug"] for each in self.admin.api("GET", "/projects")}:
            self.admin.api("POST", "/projects", json={"slug": PROJECT, "manifest": MANIFEST})
            self.admin.api("PUT", f"/projects/{PROJECT}/files", content=tar_of(FILES))
        eventually(self._is_built, within=BUILT, what=f"the environment of {PROJECT}", every=A_LOOK_S)

    def _is_built(self) -> bool:
        found = self.admin.api("GET", f"/projects/{PROJECT}")
        assert (found["build"] or {}).get("state") != "failed", found["build"]
        return found["environment"] is not None

    def __call__(self, name: str) -> Owner:
        if name not in self._known:
            self._known[name] = Owner(self.release, name)
            self.admin.api("PUT", f"/projects/{PROJECT}/members/{name}", json={"role": "editor"})
        return self._known[name]

    def check(self) -> None:
        """The service's own check finds nothing, once what is under way has settled."""
        last: list[Any] = []

        def ask() -> bool:
            last[:] = self.admin.api("GET", "/check")["findings"]
            return not last

        try:
            eventually(ask, within=SOON, what="no finding")
        except AssertionError as late:
            raise AssertionError(f"{late}: {last}") from late

    def close(self) -> None:
        """What they left running ends."""
        for owner in self._known.values():
            for each in owner.notebooks():
                if each["phase"] not in ENDED:
                    owner.stop(each["id"])
            owner.browser.close()


def is_gone(pod: Object | None) -> bool:
    """No object, or one of which nothing runs any more."""
    if pod is None:
        return True
    runs = any("running" in each["state"] for each in pod["status"].get("containerStatuses", ()))
    return pod["status"]["phase"] in ("Succeeded", "Failed") and not runs
