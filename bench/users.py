"""Many people sign in, start a notebook and look at pages: how long pages take, against a page of the hub when nothing else happens.

    .venv/bin/python -m bench.users --users 500 --per-second 2

Real: proxy, hub, service, their databases, the sign-in through OAuth, admission. Stand-in: the notebook servers, all of them one small
web server in this process (bench/stand_in.py), so that the load is that of signing in and not of JupyterLab.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench import stand_in
from moorage_hub.accounts import Account
from moorage_hub.children import Child, end_strays
from moorage_hub.login_links import LoginLinks
from moorage_hub.proxy_child import proxy_child
from moorage_hub.settings import HubSettings, load
from moorage_hub.state import prepare_state, write_private
from moorage_hub.supervise import hub_child, service_child
from moorage_service.context import make_context
from moorage_service.settings import load as load_service
from moorage_service.store.tables import EnvironmentRow, ProjectRow

GIB = 1 << 30
SERVICE: dict[str, Any] = {
    "inventory": {"cpu": 10_000, "memory": 100_000 * GIB, "gpus": {}}, "seed_starter": False,
    "rates": {"enabled": False},  # everybody comes from one address here
    "admission_lease_s": 86_400,  # no process ever stands behind a notebook
}  # fmt: skip
PROBES = 60  # of the hub's page, before anybody comes
QUICK = 1.0  # seconds between two looks of a page that follows a start, as the portal's own script has it (0.7)
THINK_S = 20.0  # between two pages that a person looks at
START_S = 60.0


@dataclass
class Figures:
    """Seconds by page, and what went wrong."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    ready: int = 0

    def percentile(self, page: str, share: float) -> float:
        found = sorted(self.times[page])
        return found[min(len(found) - 1, int(share * len(found)))]

    def table(self) -> list[dict[str, Any]]:
        base = statistics.median(self.times["hub page, unloaded"])
        rows = []
        for page, times in self.times.items():
            p50, p95 = self.percentile(page, 0.5), self.percentile(page, 0.95)
            row = {"page": page, "n": len(times), "p50_ms": p50 * 1000, "p95_ms": p95 * 1000, "p95_ratio": p95 / base}
            rows.append({key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()})
        return rows


class Crowd:
    """`users` people arrive at `per_second`, and each looks at `pages` pages after the start of their notebook."""

    def __init__(self, settings: HubSettings, users: int, per_second: float, pages: int, think_s: float) -> None:
        self.settings = settings
        self.addresses = settings.addresses
        self.users = users
        self.per_second = per_second
        self.pages = pages
        self.think_s = think_s
        self.figures = Figures()
        self._links = LoginLinks(settings.state)

    async def run(self) -> Figures:
        async with self._browser() as idle:
            await self._timed(idle, "(first page)", self._link("person-0"))
            for _ in range(PROBES):
                await self._timed(idle, "hub page, unloaded", self.addresses.hub("/home"))
            for _ in range(PROBES):
                await self._timed(idle, "portal page, unloaded", self.addresses.page())
        self.figures.times.pop("(first page)")
        tasks = []
        for number in range(self.users):
            tasks.append(asyncio.create_task(self._person(f"person-{number}")))
            await asyncio.sleep(1 / self.per_second)
        await asyncio.gather(*tasks)
        return self.figures

    async def _person(self, name: str) -> None:
        async with self._browser() as browser:
            try:
                await self._timed(browser, "sign-in, to the portal's first page", self._link(name))
                await self._start(browser, name)
                for number in range(self.pages):
                    await asyncio.sleep(self.think_s)
                    path = ("/", "/projects", "/workloads")[number % 3]
                    await self._timed(browser, f"portal {path}", self.addresses.page(path))
                    await self._timed(browser, "hub page, loaded", self.addresses.hub("/home"))
            except (httpx.HTTPError, Trouble) as error:
                self.figures.errors.append(f"{name}: {type(error).__name__} {error}")

    async def _start(self, browser: httpx.AsyncClient, name: str) -> None:
        headers = {"Origin": self.addresses.portal, "Referer": self.addresses.page()}
        form = {"project": "starter", "cpu": "1", "memory_gib": "1"}
        begun = time.perf_counter()
        await self._checked(browser.post(self.addresses.page("/start"), data=form, headers=headers))
        while True:
            page = await self._timed(browser, "page that follows a start", self.addresses.page("/start/starter"))
            if self.addresses.server(name, "starter", "lab").removeprefix(self.addresses.portal) in page.text:
                break
            if time.perf_counter() - begun > START_S:
                raise Trouble(f"no notebook after {START_S:.0f} s: {page.text[-300:]}")
            await asyncio.sleep(QUICK)
        self.figures.times["start, to the notebook's address"].append(time.perf_counter() - begun)
        answer = await self._timed(
            browser, "notebook server, through the proxy", self.addresses.server(name, "starter", "lab")
        )
        if answer.json()["path"] != f"/user/{name}/starter/lab":
            raise Trouble(f"another server answered: {answer.text[:200]}")
        self.figures.ready += 1

    async def _timed(self, browser: httpx.AsyncClient, page: str, url: str) -> httpx.Response:
        begun = time.perf_counter()
        answer = await self._checked(browser.get(url))
        self.figures.times[page].append(time.perf_counter() - begun)
        return answer

    async def _checked(self, asked: Any) -> httpx.Response:
        answer: httpx.Response = await asked
        if answer.status_code != 200:
            said = " ".join(re.sub(r"(?s)<(script|style|head).*?</\1>|<[^>]+>", " ", answer.text).split())
            raise Trouble(f"{answer.request.method} {answer.url}: {answer.status_code} {said[:200]}")
        return answer

    def _link(self, name: str) -> str:
        return self.addresses.hub("/login-once", token=self._links.create(name))

    @asynccontextmanager
    async def _browser(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = LoopbackNames(limits=httpx.Limits(max_connections=4))
        async with httpx.AsyncClient(
            follow_redirects=True, timeout=120, trust_env=False, transport=transport
        ) as browser:
            yield browser


class Trouble(Exception):
    """Something that a person would not have expected."""


class LoopbackNames(httpx.AsyncHTTPTransport):
    """NAME.localhost leads to 127.0.0.1, as browsers know."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        there = httpx.Request(
            request.method, request.url.copy_with(host="127.0.0.1"), headers=request.headers, stream=request.stream,
            extensions=request.extensions,
        )  # fmt: skip
        return await super().handle_async_request(there)


@contextmanager
def installation(users: int, proxy_script: Path, server_python: Path, server_port: int) -> Iterator[HubSettings]:
    """Service, proxy and hub on a new state folder, with people person-0, person-1, ..."""
    state = Path(tempfile.mkdtemp(prefix="moorage-users-"))
    state.chmod(0o755)
    children: list[Child] = []
    try:
        prepare_state(state)
        hub = {
            "user": "admin",
            "server_python": str(server_python),
            "proxy_script": str(proxy_script),
            "poll_s": 60,
            "sign_in_rate": "",
        }
        (state / "settings.yaml").write_text(json.dumps({"hub": hub, "service": SERVICE}))
        nobodys = {"salt": "00", "hash": "no password", "admin": False}  # they come by one-time links
        accounts = {f"person-{number}": nobodys for number in range(users)}
        accounts["admin"] = {**nobodys, "admin": True}
        assert Account(**nobodys)  # type: ignore[arg-type]
        write_private(state / "secrets" / "accounts.json", json.dumps(accounts))
        _furnish(state)
        settings = load(state)
        environ = {
            **os.environ,
            "MOORAGE_SERVICE_PORT_WALL": "off",
            "MOORAGE_BENCH_SERVER": f"http://127.0.0.1:{server_port}",
            "PYTHONWARNINGS": "ignore",
        }
        hub_process = hub_child(settings, environ)
        config = str(Path(__file__).with_name("hub_config.py"))
        hub_process.argv = (*hub_process.argv[:-1], config)
        children = [service_child(settings, environ), proxy_child(settings, environ), hub_process]
        for child in children:
            child.start()
        _until_answers(settings, children)
        yield settings
    finally:
        for child in reversed(children):
            child.stop()
        end_strays(state)
        shutil.rmtree(state, ignore_errors=True)


def _furnish(state: Path) -> None:
    context = make_context(load_service(state=state))
    now = context.clock()
    with context.database.begin() as session:
        session.add(EnvironmentRow(digest="sha256-be", python="3.11.2", packages={}, lock="", created_at=now))
        session.add(
            ProjectRow(
                slug="starter", name="Starter", manifest="name: Starter\n", open_to_all=True, environment="sha256-be", created_at=now
            )
        )  # fmt: skip
    context.hub.close()
    context.database.close()


def _until_answers(settings: HubSettings, children: list[Child]) -> None:
    """Raises RuntimeError with the log's end when one of them dies."""
    headers = {"Host": settings.addresses.netloc}
    for url in (f"{settings.local_url}/hub/health", f"{settings.local_url}/services/moorage/health"):
        while True:
            for child in children:
                if child.process is None or child.process.poll() is not None:
                    raise RuntimeError(f"The {child.name} ended.{child.tail()}")
            try:
                if httpx.get(url, headers=headers, timeout=5, trust_env=False).is_success:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)


def measure(
    users: int, per_second: float, proxy_script: Path, server_python: Path, *, pages: int = 6, think_s: float = THINK_S
) -> Figures:
    """One run; the figures of all its pages."""
    with stand_in.serving() as port, installation(users, proxy_script, server_python, port) as settings:
        return asyncio.run(Crowd(settings, users, per_second, pages, think_s).run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--per-second", type=float, default=2.0)
    parser.add_argument("--pages", type=int, default=6, help="how many pages each looks at after the start")
    parser.add_argument("--think-s", type=float, default=THINK_S, help="seconds between two of them")
    given = parser.parse_args()
    from bootstrap.interpreter import choose
    from bootstrap.node import ensure_proxy
    from bootstrap.places import ROOT, prepare
    from bootstrap.uv_tool import ensure_uv

    places = prepare(ROOT / ".cache")
    proxy = ensure_proxy(places, ensure_uv(places), choose(places))
    figures = measure(
        given.users, given.per_second, proxy, Path(sys.executable), pages=given.pages, think_s=given.think_s
    )
    print(f"{given.users} users at {given.per_second}/s: {figures.ready} with a notebook, {len(figures.errors)} errors")
    print("| page | n | p50 ms | p95 ms | p95 against the hub's unloaded page |\n|---|---|---|---|---|")
    for row in figures.table():
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    for line in figures.errors[:20]:
        print(line)


if __name__ == "__main__":
    main()
