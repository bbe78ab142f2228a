"""A whole installation for fault tests, without hub and proxy: state folder, services as processes, real shims, stand-in engines."""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from moorage.wire import Size
from moorage_service.admin.opening import opened
from moorage_service.context import Context, make_context
from moorage_service.identity import sessions
from moorage_service.settings import load
from moorage_service.store.tables import EnvironmentRow, ProjectRow, UserRow
from moorage_spawners.launch import Identity, LocalProcesses, Observation, ProcessSpec
from tests.fakes.hub import FakeHub
from tests.faults.services import Service, Zygote
from tests.faults.standin import PACKAGES, make_environment
from tests.waiting import eventually

GIB = 1 << 30
ENVIRONMENT = "sha256-5ad1d"
USERS = (("root", True), ("ada", False), ("bob", False))
SETTINGS: dict[str, Any] = {
    "inventory": {"cpu": 64, "memory": 256 * GIB, "gpus": {}}, "reconcile_s": 0.1, "orphan_sweep_s": 0.5, "stop_grace_s": 0.5,
    "hub_token_cache_s": 60, "seed_starter": False, "port_first": 28000, "port_blocks": 60, "start_timeout_s": 60,
    "agent_interval_s": 0.2, "port_wall": "off", "rates": {"enabled": False}, "starting_notebooks": 1000,
}  # fmt: skip
WORKER = {"cpu": 0.1, "memory": GIB}


class Installation:
    """Users root (an admin), ada and bob; the project `starter`, whose environment is a stand-in (tests/faults/standin.py)."""

    def __init__(self, state: Path, zygote: Zygote, hub: FakeHub) -> None:
        self.state = state
        self.hub = hub
        self.services: list[Service] = []
        self.processes = LocalProcesses(state / "workloads")
        self.tokens = {name: hub.add_user(name, admin=admin) for name, admin in USERS}
        self._zygote = zygote

    @classmethod
    @contextmanager
    def make(cls, database_url: str | None = None, **settings: Any) -> Iterator["Installation"]:
        """`settings`: of the service, over `SETTINGS`. Ends whatever was started, services and workloads."""
        state = Path(tempfile.mkdtemp(prefix="mo-fault-"))
        state.chmod(0o755)  # other uids' processes work below it
        hub, zygote = FakeHub(), Zygote()
        try:
            with hub.serve() as origin:
                runner = str(state / "environments" / ENVIRONMENT / "bin" / "runner")
                given = {**SETTINGS, "hub_api_url": f"{origin}/hub/api", "server_python": runner, **settings}
                if database_url is not None:
                    given["database_url"] = database_url
                (state / "settings.yaml").write_text(json.dumps({"service": given}))
                made = cls(state, zygote, hub)
                made._furnish()
                try:
                    yield made
                finally:
                    made.clear()
        finally:
            zygote.close()
            shutil.rmtree(state, ignore_errors=True)

    def _furnish(self) -> None:
        context = make_context(load(state=self.state))
        (context.settings.secrets / "service-to-hub").write_text(self.hub.service_token)
        make_environment(self.state / "environments" / ENVIRONMENT)
        now = context.clock()
        with context.database.begin() as session:
            for number, (name, admin) in enumerate(USERS):
                uid = context.settings.uid_first + number if os.geteuid() == 0 else None
                session.add(UserRow(hub_name=name, admin=admin, groups=[], uid=uid, created_at=now))
            session.add(EnvironmentRow(digest=ENVIRONMENT, python="3.11.2", packages=PACKAGES, lock="", created_at=now))
            session.add(
                ProjectRow(
                    slug="starter", name="Starter", manifest="name: Starter\n", open_to_all=True, environment=ENVIRONMENT,
                    created_at=now,
                )
            )  # fmt: skip
        context.hub.close()
        context.database.close()

    # --- services ---------------------------------------------------------------------------------------------------

    def start(self, *, crash_at: str | None = None, port: int | None = None, **environ: str) -> Service:
        """Starts a service on a port of its own (the first one's, when that has ended), with `MOORAGE_...` variables more."""
        ended = [each for each in self.services if each.status() is not None]
        if port is None:
            port = ended[0].port if ended else free_port()
        made = Service(
            zygote=self._zygote,
            environ={"MOORAGE_SERVICE_STATE": str(self.state), **environ},
            port=port,
            log=self.state / "logs" / "service.log",
            crash_at=crash_at,
        )
        self.services = [each for each in self.services if each.port != port or each.status() is None]
        self.services.append(made)
        return made.start()

    @property
    def log(self) -> str:
        """Of all services."""
        return (self.state / "logs" / "service.log").read_text(errors="replace")

    @contextmanager
    def context(self) -> Iterator[Context]:
        """The store and the processes, as `moorage admin` opens them."""
        with opened(self.state) as context:
            yield context

    # --- people -----------------------------------------------------------------------------------------------------

    def api(self, name: str = "ada", service: Service | None = None, *, timeout: float = 30) -> httpx.Client:
        """Sends as this person to a service (the newest one that lives); close it."""
        to = service or next(each for each in reversed(self.services) if each.status() is None)
        headers = {"Authorization": f"Bearer {self.tokens[name]}"}
        return httpx.Client(base_url=f"{to.url}/api/v1", headers=headers, trust_env=False, timeout=timeout)

    def spawner(self, service: Service | None = None) -> httpx.Client:
        """Sends as the hub's spawner."""
        with self.context() as context:
            token = sessions.spawner_token(context.settings)
        made = self.api(service=service)
        made.headers["Authorization"] = f"Bearer {token}"
        return made

    # --- workloads --------------------------------------------------------------------------------------------------

    def cluster_request(self, **spec: Any) -> dict[str, Any]:
        return {
            "project": "starter",
            "spec": {"engine": "ray", "min_workers": 1, "max_workers": 1, "worker": WORKER, "head": WORKER, **spec},
        }

    def start_notebook(self, user: str = "ada", service: Service | None = None) -> str:
        """Admits a notebook and starts a stand-in server under a shim, as the hub's spawner would; its id."""
        size = {"cpu": 0.1, "memory": GIB}
        asked = {"user": user, "admin": False, "groups": [], "project": "starter", "size": size}
        with self.spawner(service) as http:
            answer = http.post("/notebooks", json=asked)
            assert answer.status_code == 201, answer.text
            admitted = answer.json()
            self.processes.start(
                ProcessSpec(
                    workload_id=admitted["workload_id"], generation=admitted["generation"], role="server",
                    argv=("/bin/sleep", "1000000"), env={}, cwd="/", size=Size(cpu=0.1, memory=GIB),
                    identity=Identity(uid=admitted.get("uid"), gid=admitted.get("gid"), home=admitted["home"]),
                    labels={"kind": "notebook", "owner": user, "project": "starter"},
                )
            )  # fmt: skip
            ready = {"state": "ready", "url": f"/user/{user}/starter/"}
            assert http.post(f"/notebooks/{admitted['workload_id']}/observations", json=ready).status_code == 204
        return str(admitted["workload_id"])

    def workload(self, workload_id: str, user: str = "ada", service: Service | None = None) -> dict[str, Any]:
        with self.api(user, service) as http:
            answer = http.get(f"/workloads/{workload_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(
        self, workload_id: str, *phases: str, user: str = "ada", within: float = 60, service: Service | None = None
    ) -> dict[str, Any]:
        """Until the workload is in one of the phases."""

        def there() -> dict[str, Any] | None:
            found = self.workload(workload_id, user, service)
            return found if found["phase"] in phases else None

        return eventually(there, within=within, what=f"{workload_id} in {phases}")

    def seconds_to_ready(self, workload_id: str, user: str = "ada") -> float:
        found = self.workload(workload_id, user)
        first, last = (
            datetime.fromisoformat(found[name].replace("Z", "+00:00")) for name in ("created_at", "ready_at")
        )
        return (last - first).total_seconds()

    def running(self) -> list[Observation]:
        """Every process of a workload that is not gone."""
        return [seen for seen in self.processes.observe_all() if not seen.gone]

    def clear(self) -> None:
        """Ends all services, then all workloads."""
        for service in self.services:
            service.kill()
        for seen in self.running():
            self.processes.stop(seen.workload_id, grace_s=0)
        eventually(lambda: not self.running(), what="the end of all processes")
        for workload_id in self.processes.groups():
            self.processes.remove_groups(workload_id)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
