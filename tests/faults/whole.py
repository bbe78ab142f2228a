"""All of Moorage on one machine: service, proxy and hub as processes, real shims, many people.

`light` people get a stand-in notebook server (light_server.py), `heavy` ones the real one with real kernels. Every program may be
killed and started again, at a crash point too.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from moorage_hub.accounts import Accounts
from moorage_hub.children import Child, end_strays
from moorage_hub.login_links import LoginLinks
from moorage_hub.proxy_child import proxy_child
from moorage_hub.settings import HubSettings, load
from moorage_hub.state import prepare_state, read_token, write_private
from moorage_hub.supervise import hub_child, service_child
from moorage_service.admin.opening import opened
from moorage_service.context import Context, make_context
from moorage_service.settings import load as load_service
from moorage_service.store.tables import EnvironmentRow, ProjectRow
from moorage_spawners.launch import LocalProcesses, Observation
from tests.faults.person import Person
from tests.kernels import Kernel, NotebookServer
from tests.waiting import eventually

GIB = 1 << 30
ENVIRONMENT = "sha256-0ca1"
SERVICE: dict[str, Any] = {
    "inventory": {"cpu": 64, "memory": 256 * GIB, "gpus": {}}, "reconcile_s": 0.2, "orphan_sweep_s": 1, "stop_grace_s": 1,
    "seed_starter": False, "session_check_s": 600, "rates": {"enabled": False}, "starting_notebooks": 1000,
}  # fmt: skip
HUB: dict[str, Any] = {"user": "admin", "poll_s": 1, "check_routes_s": 1, "stop_grace_s": 1}

# The server environment's interpreter: the stand-in for all but the heavy ones.
PYTHON = """#!/bin/sh
case "$2 $3" in
  "-m jupyterhub.singleuser") case " {heavy} " in *" $USER "*) ;; *) exec /usr/bin/python3 -I -S {light};; esac ;;
esac
exec {python} "$@"
"""


class Whole:
    """`hub`, `proxy` and `service` are children as `make up` has them; nobody watches over them but the test."""

    def __init__(self, state: Path, settings: HubSettings) -> None:
        self.state = state
        self.settings = settings
        self.processes = LocalProcesses(state / "workloads")
        self.environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self.service = service_child(settings, self.environ)
        self.proxy = proxy_child(settings, self.environ)
        self.hub = hub_child(settings, self.environ)

    @classmethod
    @contextmanager
    def make(
        cls,
        proxy_script: Path,
        server_python: Path,
        *,
        light: Sequence[str],
        heavy: Sequence[str] = (),
        start: bool = True,
        **hub: Any,
    ) -> Iterator["Whole"]:
        """Everything started, if `start`. Ends whatever runs, programs and workloads."""
        state = Path(tempfile.mkdtemp(prefix="mo-whole-"))
        state.chmod(0o755)  # other uids' processes work below it
        try:
            prepare_state(state)
            take_ports(state)
            python = furnish(state, server_python, heavy)
            own = {**HUB, "server_python": str(python), "proxy_script": str(proxy_script), **hub}
            (state / "settings.yaml").write_text(yaml.safe_dump({"hub": own, "service": SERVICE}))
            made = cls(state, load(state))
            accounts = Accounts(state, "admin")
            accounts.ensure_owner()
            for name in (*light, *heavy):
                accounts.add(name)
            try:
                yield made.start() if start else made
            finally:
                made.clear()
        finally:
            shutil.rmtree(state, ignore_errors=True)

    def start(self) -> "Whole":
        for child in (self.service, self.proxy, self.hub):
            child.start()
        eventually(lambda: self._healthy(self.service, f"{self.settings.service_url}/health"), within=60)
        self.until_hub_answers()
        return self

    # --- programs ---------------------------------------------------------------------------------------------------

    def kill(self, child: Child) -> None:
        """SIGKILL; returns when it is gone."""
        assert child.process is not None
        child.process.kill()
        child.process.wait()

    def crash_next_at(self, child: Child, point: str | None) -> None:
        """Arms the crash point for the child's next start; None disarms."""
        given = {} if point is None else {"MOORAGE_CRASH_AT": point}
        child.env = {**{key: value for key, value in child.env.items() if key != "MOORAGE_CRASH_AT"}, **given}

    def restart_hub(self, crash_at: str | None) -> None:
        """Starts it anew, killed if it lives, with this crash point or none; returns when it answers."""
        if self.hub.process is not None and self.hub.process.poll() is None:
            self.kill(self.hub)
        self.crash_next_at(self.hub, crash_at)
        self.hub.start()
        self.until_hub_answers()

    @property
    def ports(self) -> tuple[int, ...]:
        """On which service, proxy and hub listen."""
        one = self.settings
        return one.port, one.hub_port, one.proxy_api_port, one.service_port

    @property
    def proxy_token(self) -> str:
        return read_token(self.state, "proxy-token")

    def hub_view(self, user: str) -> set[str]:
        """The servers of a user that the hub says are ready."""
        headers = {"Authorization": f"token {read_token(self.state, 'service-to-hub')}"}
        answer = httpx.get(f"{self.settings.hub_api_url}/users/{user}", headers=headers, timeout=30, trust_env=False)
        answer.raise_for_status()
        return {name for name, server in answer.json()["servers"].items() if server["ready"]}

    def forget_at_hub(self, user: str) -> None:
        """What a restore of an older copy of its database does, while the hub is down."""
        with sqlite3.connect(self.state / "database" / "hub.sqlite") as hub:
            mine = "(SELECT id FROM users WHERE name = ?)"
            hub.execute(f"UPDATE spawners SET server_id = NULL, state = NULL WHERE user_id = {mine}", (user,))
            hub.execute(f"DELETE FROM api_tokens WHERE user_id = {mine} AND note LIKE 'Server at %'", (user,))
        hub.close()

    def lose_databases(self) -> None:
        """Service and hub die, and so does all that they knew; both are started again."""
        for child in (self.hub, self.service):
            self.kill(child)
        for path in (self.state / "database").glob("*.sqlite*"):
            path.unlink()
        self.service.start()
        eventually(lambda: self._healthy(self.service, f"{self.settings.service_url}/health"), within=60)
        self.restart_hub(None)

    def until_dead(self, child: Child) -> None:
        """Until it has killed itself at its crash point."""
        assert child.process is not None
        eventually(lambda: child.process is not None and child.process.poll() is not None, within=60)
        assert child.process.returncode == -signal.SIGKILL, child.tail()

    def until_hub_answers(self) -> None:
        url = f"{self.settings.local_url}/hub/health"
        eventually(lambda: self._healthy(self.hub, url), within=120, what="the hub answering")

    def _healthy(self, child: Child, url: str) -> bool:
        assert child.process is not None
        assert child.process.poll() is None, child.tail()
        headers = {"Host": self.settings.addresses.netloc} if url.startswith(self.settings.local_url) else {}
        try:
            return httpx.get(url, headers=headers, timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    # --- people and what they run -----------------------------------------------------------------------------------

    def person(self, name: str) -> Person:
        """Signed in at hub and portal; close them."""
        return Person(self.settings.addresses, name).sign_in(LoginLinks(self.state).create(name))

    @contextmanager
    def context(self) -> Iterator[Context]:
        with opened(self.state) as context:
            yield context

    def running(self, user: str | None = None) -> list[Observation]:
        """Every process of a workload that is not gone."""
        seen = [each for each in self.processes.observe_all() if not each.gone]
        return [each for each in seen if user in (None, each.labels.get("owner"))]

    def clear(self) -> None:
        for child in (self.hub, self.proxy, self.service):
            child.stop()
        end_strays(self.state)
        for seen in self.running():
            self.processes.stop(seen.workload_id, grace_s=0)
        eventually(lambda: not self.running(), what="the end of all processes")
        for workload_id in self.processes.groups():
            self.processes.remove_groups(workload_id)
        self.processes.wall.down()


def furnish(state: Path, server_python: Path, heavy: Sequence[str]) -> Path:
    """The project `starter`, open to all, with an environment; returns the interpreter of the server environment."""
    version = subprocess.run([server_python, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    environment = state / "environments" / ENVIRONMENT
    (environment / "bin").mkdir(parents=True)
    program(environment / "bin" / "python", f'#!/bin/sh\nexec {server_python} "$@"\n')
    described = environment / "moorage-environment.json"  # by which it is known to be whole
    described.write_text(f'{{"python": "{version}", "packages": {{}}}}')
    (environment / "pyvenv.cfg").write_text(f"version_info = {version}\n")
    (environment / "pyvenv.cfg").chmod(0o644)
    for path, mode in ((environment, 0o755), (environment / "bin", 0o755), (described, 0o644)):
        path.chmod(mode)
    light = state / "environments" / "light_server.py"
    light.write_text(Path(__file__).with_name("light_server.py").read_text())
    light.chmod(0o644)
    python = state / "environments" / "server-python"
    program(python, PYTHON.format(heavy=" ".join(heavy), light=light, python=server_python))
    context = make_context(load_service(state=state, seed_starter=False))
    now = context.clock()
    with context.database.begin() as session:
        session.add(EnvironmentRow(digest=ENVIRONMENT, python=version, packages={}, lock="", created_at=now))
        session.add(
            ProjectRow(
                slug="starter", name="Starter", manifest="name: Starter\n", open_to_all=True, environment=ENVIRONMENT, created_at=now
            )
        )  # fmt: skip
    context.hub.close()
    context.database.close()
    return python


def take_ports(state: Path) -> None:
    """Ports that nobody is given by chance while ours are killed: outside of those that the kernel gives away, and of the usual ones."""
    found: list[int] = []
    for port in random.sample(range(20_000, 24_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    write_private(
        state / "ports.json", json.dumps(dict(zip(("public", "hub", "proxy_api", "service"), found, strict=False)))
    )


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def listening(pids: Collection[int]) -> set[int]:
    """The TCP ports on which these processes listen."""
    found: set[int] = set()
    for pid in pids:
        connections = psutil.Process(pid).net_connections("tcp")
        found |= {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return found


PEOPLE = [f"person-{number:02}" for number in range(20)]
KEEPER = "keeper"  # has a real server, with a kernel that counts


@pytest.fixture(scope="session")
def whole(proxy_script: Path, server_python: Path) -> Iterator[Whole]:
    """One for all tests that do not change how it is set up."""
    with Whole.make(proxy_script, server_python, light=PEOPLE, heavy=[KEEPER]) as made:
        yield made


@pytest.fixture(scope="session")
def keeper(whole: Whole) -> Iterator[Kernel]:
    """A kernel whose memory must outlive every fault: `count` is 0 at first."""
    person = whole.person(KEEPER)
    person.ask(cpu="1")
    found = person.until("ready", "failed", within=180)
    assert found["phase"] == "ready", found
    kernel = Kernel(NotebookServer(person.browser, person.server("lab")))
    assert kernel.run("count = 0; print(count)") == "0"
    yield kernel
    person.stop()
    person.close()


@pytest.fixture(scope="module")
def own_whole(proxy_script: Path, server_python: Path) -> Iterator[Whole]:
    """A module's own, not started: for tests that start it as a person does."""
    with Whole.make(proxy_script, server_python, light=PEOPLE[:3], start=False) as made:
        yield made
