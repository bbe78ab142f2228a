"""Notebooks as processes of this machine: one server per user and project, at the size that the service admitted."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyterhub.spawner import Spawner, SpawnException
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import object_session
from traitlets import Float, Unicode, default

from moorage.quantities import show_cpu, show_memory
from moorage.wire import NotebookAdmission, NotebookObservation, NotebookRequest, Size
from moorage_spawners import server
from moorage_spawners.admission import Admissions, Refused
from moorage_spawners.home import CopyFailed, prepare_home, runtime_folder
from moorage_spawners.launch import Identity, LaunchError, LocalProcesses, Observation, ProcessSpec
from moorage_spawners.launch.crash_points import reach
from moorage_spawners.options import BadOption, NotebookOptions, read_options
from moorage_spawners.readiness import NotReady, check_owner, free_port, wait_until_ready
from moorage_spawners.running import PORT_LABEL, RunningServer

ROLE = "server"
LOOPBACK = "127.0.0.1"
TAKE_OVER_S = 30.0  # how long a server that runs already may take to answer
FAILURES = (NotReady, CopyFailed, LaunchError, OSError, ValueError, SQLAlchemyError)
ERROR_LINE = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit): .+$", re.MULTILINE)
NEVER_STARTED = "The hub was restarted before the notebook server was started. Start it again."
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
    session_check_s = Float(60.0, help="How often a server asks whether a session has ended.").tag(config=True)

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
        return Admissions(self.service_url, Path(self.token_file).read_text().split()[0])

    async def start(self) -> str:
        """The server's address, once it answers."""
        asked = self._asked
        assert asked is not None
        clock = asyncio.get_running_loop().time
        late = clock() + self.start_timeout - 1
        self._steps, self._told_ready = [], False
        self._step(5, f"Asking for {show_cpu(asked.size.cpu)} and {show_memory(asked.size.memory)} in {asked.project}")
        try:
            url = await self._start_asked(asked)
        except Refused as error:
            raise SpawnException(str(error), reason=error.reason, status_code=error.status) from error
        except FAILURES as error:
            message = self._with_cause(error)
            self.log.warning("%s\n%s", message, self._log_tail())
            await self._observed("failed", message)
            raise SpawnException(message, reason="start", status_code=500) from error
        except asyncio.CancelledError:
            if clock() >= late:  # else it is the hub that ends: the start goes on without it, and is found again
                await self._observed("failed", f"The notebook server did not start within {self.start_timeout:.0f} s.")
            raise
        self._step(100, "Ready")
        self._telling = asyncio.create_task(self._tell_when_ready())
        return url

    async def _start_asked(self, asked: NotebookOptions) -> str:
        admission = await self.admissions.admit(self._request(asked))
        if admission.runs:
            try:
                return await self._take_over(admission)
            except NotReady as error:
                self.log.warning("%s can't be taken over: %s It ends.", admission.workload_id, error)
                admission = await self.admissions.admit(self._request(asked, fresh=True))
        reach("spawner.admitted")
        self._remember(admission, 0)
        return await self._start_admitted(admission, asked.size)

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

    def _request(self, asked: NotebookOptions, *, fresh: bool = False) -> NotebookRequest:
        return NotebookRequest(
            user=self.user.name,
            admin=bool(self.user.admin),
            groups=sorted(group.name for group in self.user.groups),
            project=asked.project,
            size=asked.size,
            fresh=fresh,
        )

    async def _take_over(self, admission: NotebookAdmission) -> str:
        """The address of a server that the hub has forgotten, with all that its kernels hold. Raises NotReady."""
        self._step(60, "Your notebook still runs. It is taken over as it is; stop it to change its size")
        self._remember(admission, 0)
        running = RunningServer.of(self._observe())
        self._remember(admission, running.port)
        self.api_token = running.hub_token  # by which the hub knows it; the new one is dropped
        await wait_until_ready(f"{self._address}{self.server.base_url}api", self._observe, within=TAKE_OVER_S)
        check_owner(running.port, admission.uid)
        return self._address

    async def _start_admitted(self, admission: NotebookAdmission, size: Size) -> str:
        identity = Identity(admission.uid, admission.gid, admission.home)
        folder = f"{admission.home}/{admission.project}"
        self._step(20, "Admitted. Copying the project's files into your home")
        packages = server.overlay_packages(admission)
        hindrance = await prepare_home(self.server_python, identity, folder, admission.project_files, [packages])
        runtime = runtime_folder(Path(self.state_folder), admission.workload_id, identity)
        self._step(40, hindrance or "Starting the notebook server")
        self._remember(admission, free_port())
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

    def _remember(self, admission: NotebookAdmission, port: int) -> None:
        """In the hub's database, before anything starts: a hub that is killed finds the server again, and where it listens."""
        self._workload_id, self._generation = admission.workload_id, admission.generation
        self.ip, self.port = LOOPBACK, port
        self.orm_spawner.state = self.get_state()
        session = object_session(self.orm_spawner)
        assert session is not None
        try:
            session.commit()
        except SQLAlchemyError:
            session.rollback()
            raise

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
                "kind": "notebook",
                "owner": self.user.name,
                "project": admission.project,
                PORT_LABEL: str(self.port),
            },
            ports=(self.port,),
        )

    async def poll(self) -> int | None:
        """None while anything of the server lives."""
        if not self._workload_id:
            if self._check_pending:
                await self.admissions.forget(self.user.name, self.name)
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

    async def _observed(self, state: str, message: str | None = None, url: str | None = None) -> None:
        await self.admissions.observe(self._workload_id, NotebookObservation(state=state, message=message, url=url))

    def _log_tail(self) -> str:
        path = self.processes.log_path(self._workload_id, ROLE)
        return path.read_bytes()[-LOG_TAIL:].decode(errors="replace") if path.exists() else ""

    def _with_cause(self, error: Exception) -> str:
        """The error's sentence, and what the server itself said last of it."""
        message = str(error) or type(error).__name__
        causes = ERROR_LINE.findall(self._log_tail()) if isinstance(error, NotReady) else []
        return f"{message} It says: {causes[-1][:300]}" if causes else message

    def get_state(self) -> dict[str, Any]:
        own = {"workload_id": self._workload_id, "generation": self._generation, "port": self.port}
        return {**super().get_state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._workload_id = state.get("workload_id", "")
        self._generation = state.get("generation", 0)
        self.port = state.get("port", 0)

    def clear_state(self) -> None:
        super().clear_state()
        self._workload_id, self._generation, self.port = "", 0, 0

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
