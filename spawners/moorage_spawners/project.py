"""A notebook server of a project, wherever it runs: what may be asked, the service's admission, and what is told of the start."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyterhub.spawner import Spawner, SpawnException
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import object_session
from traitlets import Float, Unicode, default

from moorage.quantities import show_cpu, show_memory
from moorage.wire import NotebookAdmission, NotebookObservation, NotebookRequest, Size
from moorage_spawners.admission import Admissions, Refused
from moorage_spawners.launch import LaunchError
from moorage_spawners.launch.crash_points import reach
from moorage_spawners.options import BadOption, NotebookOptions, read_options
from moorage_spawners.readiness import NotReady

ROLE = "server"
KIND = "notebook"
TAKE_OVER_S = 30.0  # how long a server that runs already may take to answer
NEVER_STARTED = "The hub was restarted before the notebook server was started. Start it again."
READY_POLL_S = 0.02


class NotStarted(SpawnException):  # type: ignore[misc]
    """Why a start came to nothing, in a sentence for its owner: the hub's pages and its API say it as it is."""

    @property
    def jupyterhub_message(self) -> str:
        return str(self.message)


class ProjectSpawner(Spawner):  # type: ignore[misc]  # traitlets and jupyterhub carry no types
    """Asks the service for admission and tells it what becomes of the server. How that starts is for each platform to say.

    A platform has `_start_admitted`, `_take_over`, `poll` and `stop`; FAILURES are the errors whose text is for the owner.
    """

    service_url = Unicode(help="The service's address with its prefix, as notebooks and the hub reach it.").tag(
        config=True
    )
    address = Unicode(help="What a browser uses to reach Moorage, without a trailing slash.").tag(config=True)
    token_file = Unicode(help="File with the token by which the service knows the hub.").tag(config=True)
    default_cpu = Float(1.0, help="Cores of a notebook that asks for none.").tag(config=True)
    default_memory = Float(2 << 30, help="Bytes of a notebook that asks for none.").tag(config=True)
    stop_grace_s = Float(10.0, help="Between asking a server to end and ending it, in seconds.").tag(config=True)
    session_check_s = Float(60.0, help="How often a server asks whether a session has ended.").tag(config=True)

    FAILURES: tuple[type[Exception], ...] = (NotReady, LaunchError, OSError, ValueError, SQLAlchemyError)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._asked: NotebookOptions | None = None
        self._workload_id = ""
        self._generation = 0
        self._late = 0.0  # of the loop's clock: what has not started by then is given up, with words
        self._told_ready = False
        self._telling: asyncio.Task[None] | None = None
        self._steps: list[tuple[int, str]] = []
        self._step_added = asyncio.Event()

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        return ProjectSpawner.apply_options

    def apply_options(self, given: dict[str, Any]) -> None:
        """Every path leads through here: the portal, the hub's own pages and its API."""
        size = Size(cpu=self.default_cpu, memory=int(self.default_memory))
        try:
            self._asked = read_options(given, self.name, size)
        except BadOption as error:
            raise NotStarted(str(error), reason="options") from error

    @property
    def admissions(self) -> Admissions:
        return Admissions(self.service_url, Path(self.token_file).read_text().split()[0])

    async def start(self) -> str:
        """The server's address, once it answers."""
        asked = self._asked
        assert asked is not None
        clock = asyncio.get_running_loop().time
        self._late = clock() + self.start_timeout - 1
        self._steps, self._told_ready = [], False
        self._step(5, f"Asking for {show_cpu(asked.size.cpu)} and {show_memory(asked.size.memory)} in {asked.project}")
        try:
            url = await self._start_asked(asked)
        except Refused as error:
            raise NotStarted(str(error), reason=error.reason, status_code=error.status) from error
        except self.FAILURES as error:
            message = self._in_words(error)
            self.log.warning("%s\n%s", message, self._log_hint())
            await self._observed("failed", message)
            raise NotStarted(message, reason="start", status_code=500) from error
        except asyncio.CancelledError:
            if clock() >= self._late:  # else it is the hub that ends: the start goes on without it, and is found again
                await self._observed("failed", f"The notebook server did not start within {self.start_timeout:.0f} s.")
            raise
        self._step(100, "Ready")
        self._telling = asyncio.create_task(self._tell_when_ready())
        return url

    async def _start_asked(self, asked: NotebookOptions) -> str:
        admission = await self.admissions.admit(self._request(asked))
        if admission.runs:
            self._step(60, "Your notebook still runs. It is taken over as it is; stop it to change its size")
            try:
                return await self._take_over(admission)
            except NotReady as error:
                self.log.warning("%s can't be taken over: %s It ends.", admission.workload_id, error)
                admission = await self.admissions.admit(self._request(asked, fresh=True))
        reach("spawner.admitted")
        return await self._start_admitted(admission, asked.size)

    async def _start_admitted(self, admission: NotebookAdmission, size: Size) -> str:
        """The address of a new server, once it answers. Raises one of FAILURES."""
        raise NotImplementedError

    async def _take_over(self, admission: NotebookAdmission) -> str:
        """The address of a server that the hub has forgotten, with all that its kernels hold.

        Raises NotReady when there is none: then it is ended, and a new one starts.
        """
        raise NotImplementedError

    async def poll(self) -> int | None:
        """None while anything of the server lives, or nobody can tell."""
        raise NotImplementedError

    async def stop(self, now: bool = False) -> None:
        """Returns when nothing of the server is left. What ended by itself is not called stopped."""
        raise NotImplementedError

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

    def _remember(self, admission: NotebookAdmission) -> None:
        """In the hub's database, before anything starts: a hub that is killed finds the server again, and where it is."""
        self._workload_id, self._generation = admission.workload_id, admission.generation
        self._keep_state()

    def _keep_state(self) -> None:
        self.orm_spawner.state = self.get_state()
        session = object_session(self.orm_spawner)
        assert session is not None
        try:
            session.commit()
        except SQLAlchemyError:
            session.rollback()
            raise

    async def _forget_a_cut_start(self) -> None:
        """At the hub's start, of a server of which nothing was remembered."""
        if self._check_pending:
            await self.admissions.forget(self.user.name, self.name)

    async def _observed(self, state: str, message: str | None = None, url: str | None = None) -> None:
        await self.admissions.observe(self._workload_id, NotebookObservation(state=state, message=message, url=url))

    def _in_words(self, error: Exception) -> str:
        """What is told of one of FAILURES."""
        return str(error) or type(error).__name__

    def _log_hint(self) -> str:
        """For the hub's own log, after a failure: the server's last words, or where they are."""
        return ""

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
