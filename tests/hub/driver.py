"""Drives a hub over HTTP, as a browser and as the portal do."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx

from moorage.wire import NotebookAdmission
from moorage_hub.login_links import LoginLinks
from moorage_hub.proxy_child import proxy_child
from moorage_hub.settings import HubSettings, load
from moorage_hub.state import Ports, prepare_state, read_token, write_private
from moorage_hub.supervise import hub_child
from moorage_spawners.launch import LocalProcesses
from tests.archives import tar_of
from tests.fakes.notebook_service import FakeService, serving
from tests.hub.names import LoopbackNames
from tests.ports import free_port
from tests.waiting import eventually

UID = 20044


class RunningHub:
    """`settings`, `service` (the fake) and a state folder with one user's home and one environment."""

    def __init__(
        self, state: Path, proxy_script: Path, server_python: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings`: of the hub's environment, by their names there."""
        self.state = state
        self._http = httpx.Client(trust_env=False, timeout=60)  # one for all: to make one costs more than to ask
        prepare_state(state)
        # Not the usual ones, which another installation may take at the same moment.
        write_private(state / "ports.json", json.dumps(asdict(Ports(*(free_port() for _ in range(4))))))
        self.settings: HubSettings = load(
            state, server_python=str(server_python), proxy_script=str(proxy_script), poll_s=1, user="admin"
        )
        self.processes = LocalProcesses(state / "workloads")
        self.service = FakeService(
            token=read_token(state, "hub-to-service"),
            hub_api=self.settings.hub_api_url,
            hub_token=read_token(state, "service-to-hub"),
            admission=self._admission(server_python),
        )
        environment = {
            "MOORAGE_HUB_SERVER_PYTHON": str(server_python),
            "MOORAGE_HUB_PROXY_SCRIPT": str(proxy_script),
            "MOORAGE_HUB_POLL_S": "1",
            "MOORAGE_HUB_SESSION_CHECK_S": "2",
            "MOORAGE_HUB_USER": "admin",
            **(settings or {}),
        }
        self.child = hub_child(self.settings, {**os.environ, **environment})
        self.proxy = proxy_child(self.settings, os.environ)

    def _admission(self, server_python: Path) -> NotebookAdmission:
        uid = UID if os.geteuid() == 0 else None
        home = self.state / "homes" / "us-1"
        home.mkdir(mode=0o700)
        if uid is not None:
            os.chown(home, uid, uid)
        environment = self.state / "environments" / "abc"
        (environment / "bin").mkdir(parents=True)
        program = environment / "bin" / "python"
        program.write_text(f'#!/bin/sh\nexec {server_python} "$@"\n')
        version = subprocess.run(
            [server_python, "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        (environment / "pyvenv.cfg").write_text(f"version_info = {version}\n")
        for path, mode in ((environment, 0o755), (environment / "bin", 0o755), (program, 0o755)):
            path.chmod(mode)
        return NotebookAdmission(
            workload_id="nb", generation=1, token="workload-token", project="starter", environment="abc",
            environment_path=str(environment), project_files=str(archive(self.state, {"hello.txt": "hello"})),
            home=str(home), uid=uid, gid=uid, environment_variables={"API_KEY": "secret", "PATH": "/nowhere"},
        )  # fmt: skip

    @property
    def url(self) -> str:
        return self.settings.public_url

    @property
    def home(self) -> Path:
        assert self.service.admission is not None
        return Path(self.service.admission.home)

    @contextmanager
    def serving(self) -> Iterator[None]:
        with serving(self.service, self.settings.service_port):
            try:
                self.proxy.start()
                self.start()
                yield
            finally:
                self.child.stop()
                self._http.close()
                self.proxy.stop()

    def start(self) -> None:
        self.child.start()
        eventually(self._healthy, what="the hub's health")

    def _healthy(self) -> bool:
        assert self.child.process is not None
        assert self.child.process.poll() is None, self.child.tail()
        try:
            return self._http.get(f"{self.url}/hub/health").is_success
        except httpx.TransportError:
            return False

    def browser(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, follow_redirects=True, timeout=60, trust_env=False, transport=LoopbackNames()
        )

    @contextmanager
    def signed_in(self, user: str = "admin") -> Iterator[httpx.Client]:
        with self.browser() as browser:
            answer = browser.get(self.login_link(user))
            assert answer.status_code == 200, answer.text
            yield browser

    def login_link(self, user: str = "admin") -> str:
        return self.settings.addresses.hub("/login-once", token=LoginLinks(self.state).create(user))

    def portal_token(self, user: str = "admin") -> str:
        """What the portal holds after a sign-in."""
        with self.signed_in(user):
            pass
        return str(self.service.tokens[-1]["token"])

    def api(self, method: str, path: str, token: str, **given: Any) -> httpx.Response:
        headers = {"Authorization": f"token {token}"}
        return httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=60, trust_env=False, **given)

    def start_notebook(self, token: str, user: str = "admin", **options: Any) -> list[dict[str, Any]]:
        """Asks for a server as the portal does; the progress events until it is ready or failed."""
        path = f"/users/{user}/servers/starter"
        answer = self.api("POST", path, token, json={"user_options": options})
        if answer.status_code >= 400:
            return [{"failed": True, "message": answer.json()["message"], "status": answer.status_code}]
        events = []
        headers = {"Authorization": f"token {token}"}
        with httpx.stream(
            "GET", f"{self.url}/hub/api{path}/progress", headers=headers, timeout=120, trust_env=False
        ) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
        return events

    def stop_notebook(self, token: str) -> None:
        self.api("DELETE", "/users/admin/servers/starter", token)
        eventually(lambda: all(seen.gone for seen in self.processes.observe_all()), what="the server's end")

    def change(self, **admission: Any) -> None:
        assert self.service.admission is not None
        self.service.admission = replace(self.service.admission, **admission)

    def end_workloads(self) -> None:
        for seen in self.processes.observe_all():
            self.processes.stop(seen.workload_id, grace_s=0)
        eventually(lambda: all(seen.gone for seen in self.processes.observe_all()), what="the end of every workload")


def archive(folder: Path, files: dict[str, str]) -> Path:
    """A project's files as the service stores them."""
    path = folder / "files.tar"
    path.write_bytes(tar_of({name: text.encode() for name, text in files.items()}))
    return path
