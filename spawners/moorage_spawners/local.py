"""Notebooks as processes of this machine: one server per user and project, at the size that the service admitted."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

from traitlets import Unicode

from moorage.wire import NotebookAdmission, Size
from moorage_spawners import server
from moorage_spawners.home import CopyFailed, prepare_home, runtime_folder
from moorage_spawners.launch import Identity, LocalProcesses, Observation, ProcessSpec
from moorage_spawners.launch.crash_points import reach
from moorage_spawners.project import KIND, NEVER_STARTED, ROLE, TAKE_OVER_S, ProjectSpawner
from moorage_spawners.readiness import NotReady, check_owner, free_port, wait_until_ready
from moorage_spawners.running import PORT_LABEL, RunningServer

LOOPBACK = "127.0.0.1"
ERROR_LINE = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit): .+$", re.MULTILINE)
LOG_TAIL = 2000


class ProjectLocalSpawner(ProjectSpawner):
    """Starts the server under a shim, which outlives this hub."""

    state_folder = Unicode(help="Moorage's state folder.").tag(config=True)
    server_python = Unicode(help="Interpreter of the server environment; every uid can read it.").tag(config=True)

    FAILURES = (*ProjectSpawner.FAILURES, CopyFailed)

    @property
    def processes(self) -> LocalProcesses:
        return LocalProcesses(Path(self.state_folder) / "workloads")

    async def _take_over(self, admission: NotebookAdmission) -> str:
        self._remember_at(admission, 0)
        running = RunningServer.of(self._observe())
        self._remember_at(admission, running.port)
        self.api_token = running.hub_token  # by which the hub knows it; the new one is dropped
        await wait_until_ready(f"{self._address}{self.server.base_url}api", self._observe, within=TAKE_OVER_S)
        check_owner(running.port, admission.uid)
        return self._address

    async def _start_admitted(self, admission: NotebookAdmission, size: Size) -> str:
        self._remember_at(admission, 0)
        identity = Identity(admission.uid, admission.gid, admission.home)
        folder = f"{admission.home}/{admission.project}"
        self._step(20, "Admitted. Copying the project's files into your home")
        packages = server.overlay_packages(admission)
        hindrance = await prepare_home(self.server_python, identity, folder, admission.project_files, [packages])
        runtime = runtime_folder(Path(self.state_folder), admission.workload_id, identity)
        self._step(40, hindrance or "Starting the notebook server")
        self._remember_at(admission, free_port())
        reach("spawner.remembered")
        spec = self._process(admission, identity, size, folder, runtime)
        await asyncio.to_thread(self.processes.start, spec)
        reach("spawner.started")
        await self._observed("starting", hindrance or "Starting the notebook server.")
        self._step(60, "Waiting for the notebook server to answer")
        await wait_until_ready(f"{self._address}{self.server.base_url}api", self._observe, within=self.start_timeout)
        check_owner(self.port, identity.uid)
        reach("spawner.answers")
        return self._address

    def _remember_at(self, admission: NotebookAdmission, port: int) -> None:
        self.ip, self.port = LOOPBACK, port
        self._remember(admission)

    @property
    def _address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def get_url(self) -> str:
        """Asked by a hub that was restarted, which may not have heard where the server listens."""
        return f"{self._address}{self.server.base_url}" if self.port else str(self.server.url)

    def _process(
        self, admission: NotebookAdmission, identity: Identity, size: Size, folder: str, runtime: Path
    ) -> ProcessSpec:
        jupyter = server.jupyter_folder(Path(self.state_folder), admission, self.session_check_s)
        addresses = server.Addresses(self.service_url, self.address)
        return ProcessSpec(
            workload_id=admission.workload_id,
            generation=admission.generation,
            role=ROLE,
            argv=server.argv(self.server_python),
            env=server.environment(self.get_env(), admission, self.user.name, addresses, jupyter, runtime),
            cwd=folder,
            identity=identity,
            size=size,
            labels={
                "kind": KIND,
                "owner": self.user.name,
                "project": admission.project,
                PORT_LABEL: str(self.port),
            },
            ports=(self.port,),
        )

    async def poll(self) -> int | None:
        """None while anything of the server lives."""
        if not self._workload_id:
            await self._forget_a_cut_start()
            return 0
        if self._check_pending:
            await self._found_again()
        seen = self._observe()
        if seen is None:
            return 0
        if not seen.gone:
            await self._tell_ready()  # once more after a restart of the hub, which may have come in between
            return None
        return seen.exit_code if seen.exit_code is not None else 128 + (seen.signal or 0)

    async def _found_again(self) -> None:
        """At the hub's start. It ends what does not answer soon, so it is kept waiting for as long as the process lives."""
        if self._observe() is None:
            await self._observed("failed", NEVER_STARTED)
            return
        with contextlib.suppress(NotReady):  # its record says how it ended
            await wait_until_ready(f"{await self.get_url()}api", self._observe)

    async def stop(self, now: bool = False) -> None:
        """Returns when nothing of the server is left. What ended by itself is not called stopped: its record says how."""
        seen = self._observe() if self._workload_id else None
        if seen is None or seen.gone:
            return
        self.processes.stop(self._workload_id, role=ROLE, grace_s=0 if now else self.stop_grace_s)
        while (seen := self._observe()) is not None and not seen.gone:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
        await self._observed("gone", "Stopped.")

    def _observe(self) -> Observation | None:
        found = [seen for seen in self.processes.observe(self._workload_id) if seen.role == ROLE]
        return found[-1] if found else None

    def _log_hint(self) -> str:
        path = self.processes.log_path(self._workload_id, ROLE)
        return path.read_bytes()[-LOG_TAIL:].decode(errors="replace") if path.exists() else ""

    def _in_words(self, error: Exception) -> str:
        """The error's sentence, and what the server itself said last of it."""
        message = super()._in_words(error)
        causes = ERROR_LINE.findall(self._log_hint()) if isinstance(error, NotReady) else []
        return f"{message} It says: {causes[-1][:300]}" if causes else message

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "port": self.port}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.port = state.get("port", 0)

    def clear_state(self) -> None:
        super().clear_state()
        self.port = 0
