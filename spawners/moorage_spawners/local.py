"""Notebooks as processes of this machine: one server per user and project, at the size that the service admitted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyterhub.spawner import Spawner, SpawnException
from traitlets import Float, Unicode, default

from moorage.quantities import show_cpu, show_memory
from moorage.wire import NotebookAdmission, NotebookObservation, NotebookRequest, Size
from moorage_spawners import server
from moorage_spawners.admission import Admissions, Refused
from moorage_spawners.home import CopyFailed, prepare_home
from moorage_spawners.launch import Identity, LaunchError, LocalProcesses, Observation, ProcessSpec
from moorage_spawners.options import BadOption, NotebookOptions, read_options
from moorage_spawners.readiness import NotReady, check_owner, free_port, wait_until_ready

ROLE = "server"
LOG_TAIL = 2000
READY_POLL_S = 0.02


class ProjectLocalSpawner(Spawner):  # type: ignore[misc]  # traitlets and jupyterhub carry no types
    """Asks the service for admission, then starts the server under a shim, which outlives this hub."""

    state_folder = Unicode(help="Moorage's state folder.").tag(config=True)
    service_url = Unicode(help="The service's address with its prefix, as this machine reaches it.").tag(config=True)
    address = Unicode(help="What a browser uses to reach Moorage, without a trailing slash.").tag(config=True)
    token_file = Unicode(help="File with the token by which the service knows the hub.").tag(config=True)
    server_python = Unicode(help="Interpreter of the server environment; every uid can read it.").tag(config=True)
    default_cpu = Float(1.0, help="Cores of a notebook that asks for none.").tag(config=True)
    default_memory = Float(2 << 30, help="Bytes of a notebook that asks for none.").tag(config=True)
    stop_grace_s = Float(10.0, help="Between asking a server to end and ending it, in seconds.").tag(config=True)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._asked: NotebookOptions | None = None
        self._workload_id = ""
        self._generation = 0
        self._told_ready = False
        self._telling: asyncio.Task[None] | None = None
        self._steps: list[tuple[int, str]] = []
        self._step_added = asyncio.Event()

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        return ProjectLocalSpawner.apply_options

    def apply_options(self, given: dict[str, Any]) -> None:
        """Every path leads through here: the portal, the hub's own pages and its API."""
        size = Size(cpu=self.default_cpu, memory=int(self.default_memory))
        try:
            self._asked = read_options(given, self.name, size)
        except BadOption as error:
            raise SpawnException(str(error), reason="options") from error

    @property
    def processes(self) -> LocalProcesses:
        return LocalProcesses(Path(self.state_folder) / "workloads")

    @property
    def admissions(self) -> Admissions:
        return Admissions(self.service_url, Path(self.token_file).read_text().strip())

    async def start(self) -> str:
        """The server's address, once it answers."""
        asked = self._asked
        assert asked is not None
        self._steps, self._told_ready = [], False
        self._step(5, f"Asking for {show_cpu(asked.size.cpu)} and {show_memory(asked.size.memory)} in {asked.project}")
        try:
            admission = await self.admissions.admit(self._request(asked))
        except Refused as error:
            raise SpawnException(str(error), reason=error.reason, status_code=error.status) from error
        self._workload_id, self._generation = admission.workload_id, admission.generation
        try:
            url = await self._start_admitted(admission, asked.size)
        except (NotReady, CopyFailed, LaunchError, OSError, ValueError) as error:
            message = str(error) or type(error).__name__
            self.log.warning("%s\n%s", message, self._log_tail())
            await self._observed("failed", message)
            raise SpawnException(message, reason="start", status_code=500) from error
        self._step(100, "Ready")
        self._telling = asyncio.create_task(self._tell_when_ready())
        return url

    async def _tell_when_ready(self) -> None:
        """The service hears "ready" when the hub's proxy leads to the server, a moment after `start` has returned."""
        deadline = asyncio.get_running_loop().time() + self.http_timeout
        while not self.ready and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - the hub tells nobody
            await asyncio.sleep(READY_POLL_S)
        await self._tell_ready()

    async def _tell_ready(self) -> None:
        if self.ready and not self._told_ready:
            self._told_ready = True
            await self._observed("ready", url=f"/user/{self.user.escaped_name}/{self.name}/")

    def _request(self, asked: NotebookOptions) -> NotebookRequest:
        return NotebookRequest(
            user=self.user.name,
            admin=bool(self.user.admin),
            groups=sorted(group.name for group in self.user.groups),
            project=asked.project,
            size=asked.size,
        )

    async def _start_admitted(self, admission: NotebookAdmission, size: Size) -> str:
        identity = Identity(admission.uid, admission.gid, admission.home)
        folder = f"{admission.home}/{admission.project}"
        self._step(20, "Admitted. Copying the project's files into your home")
        packages = server.overlay_packages(admission)
        await prepare_home(self.server_python, identity, folder, admission.project_files, [packages])
        self._step(40, "Starting the notebook server")
        self.ip, self.port = "127.0.0.1", free_port()
        spec = self._process(admission, identity, size, folder)
        await asyncio.to_thread(self.processes.start, spec)
        await self._observed("starting", "Starting the notebook server.")
        self._step(60, "Waiting for the notebook server to answer")
        url = f"http://{self.ip}:{self.port}"
        await wait_until_ready(f"{url}{self.server.base_url}api", self._observe, within=self.start_timeout)
        check_owner(self.port, identity.uid)
        return url

    def _process(self, admission: NotebookAdmission, identity: Identity, size: Size, folder: str) -> ProcessSpec:
        jupyter = server.jupyter_folder(Path(self.state_folder), admission)
        addresses = server.Addresses(self.service_url, self.address)
        return ProcessSpec(
            workload_id=admission.workload_id,
            generation=admission.generation,
            role=ROLE,
            argv=server.argv(self.server_python),
            env=server.environment(self.get_env(), admission, self.user.name, addresses, jupyter),
            cwd=folder,
            identity=identity,
            size=size,
            labels={"kind": "notebook", "owner": self.user.name, "project": admission.project},
            ports=(self.port,),
        )

    async def poll(self) -> int | None:
        """None while anything of the server lives."""
        if not self._workload_id:
            return 0
        seen = self._observe()
        if seen is None:
            return 0
        if not seen.gone:
            await self._tell_ready()  # once more after a restart of the hub, which may have come in between
            return None
        return seen.exit_code if seen.exit_code is not None else 128 + (seen.signal or 0)

    async def stop(self, now: bool = False) -> None:
        """Returns when nothing of the server is left."""
        if not self._workload_id:
            return
        self.processes.stop(self._workload_id, role=ROLE, grace_s=0 if now else self.stop_grace_s)
        while (seen := self._observe()) is not None and not seen.gone:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
        await self._observed("gone", "Stopped.")

    def _observe(self) -> Observation | None:
        found = [seen for seen in self.processes.observe(self._workload_id) if seen.role == ROLE]
        return found[-1] if found else None

    async def _observed(self, state: str, message: str | None = None, url: str | None = None) -> None:
        await self.admissions.observe(self._workload_id, NotebookObservation(state=state, message=message, url=url))

    def _log_tail(self) -> str:
        path = self.processes.log_path(self._workload_id, ROLE)
        return path.read_bytes()[-LOG_TAIL:].decode(errors="replace") if path.exists() else ""

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "workload_id": self._workload_id, "generation": self._generation}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._workload_id = state.get("workload_id", "")
        self._generation = state.get("generation", 0)

    def clear_state(self) -> None:
        super().clear_state()
        self._workload_id, self._generation = "", 0

    def _step(self, percent: int, message: str) -> None:
        self._steps.append((percent, message))
        self._step_added.set()

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Steps in words, as they happen. The hub stops listening when the start has ended."""
        shown = 0
        while True:
            for percent, message in self._steps[shown:]:
                yield {"progress": percent, "message": message}
                shown += 1
            self._step_added.clear()
            await self._step_added.wait()
