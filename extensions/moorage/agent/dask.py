"""Dask, asked through its scheduler over TLS. Files of the certificate are named by Dask's own settings."""

import asyncio
import logging
import platform
import time
from typing import Any

import dask
import distributed
from distributed.core import rpc
from distributed.protocol.pickle import dumps
from distributed.security import Security

from moorage.agent.config import AgentConfig
from moorage.agent.engine import Sight
from moorage.wire import WorkerReport

log = logging.getLogger(__name__)
TIMEOUT_S = 5.0
ALIVE = ("running", "paused")  # paused: out of memory for the moment
# The scheduler wants as many workers as would finish what it knows of in this time. A worker starts in about two
# seconds, so work of a few seconds is worth one.
TARGET_DURATION = "2s"


class DaskEngine:
    def __init__(self, config: AgentConfig) -> None:
        self._address = config.address
        self._scheduler: Any = None
        self._idle_since: dict[str, float] = {}
        self._retiring: dict[str, asyncio.Task[Any]] = {}
        self._counts = False  # this scheduler can be asked for its clients

    async def look(self) -> Sight:
        try:
            return await asyncio.wait_for(self._look(), TIMEOUT_S)
        except (OSError, TimeoutError) as error:  # CommClosedError is an OSError
            log.debug("the scheduler does not answer: %s", error)
            await self._drop()
            return Sight(answers=False)

    async def _look(self) -> Sight:
        if self._scheduler is None:
            self._scheduler = rpc(self._address, connection_args=Security().get_connection_args("client"))
        identity = await self._scheduler.identity()
        # Workers that run nothing, and whose data, if any, fits on the others.
        closable = set(await self._scheduler.workers_to_close(attribute="name"))
        wanted = await self._scheduler.adaptive_target(target_duration=TARGET_DURATION)
        resting = await self._scheduler.check_idle() is not None  # nothing runs, waits or has just ended
        clients = await self._clients()
        names = {str(worker["name"]) for worker in identity["workers"].values() if worker["status"] in ALIVE}
        now = time.monotonic()
        self._idle_since = {name: self._idle_since.get(name, now) for name in names if name in closable}
        return Sight(
            answers=True,
            workers=[self._report(name, now) for name in sorted(names)],
            wanted=int(wanted),
            clients=clients or 0,
            idle=None if clients is None else resting and clients == 0,
            versions={
                "python": platform.python_version(),
                "distributed": distributed.__version__,
                "dask": dask.__version__,
            },
        )

    async def _clients(self) -> int | None:
        """Clients from outside; those that tasks make on workers are work. None when the scheduler takes no function to count them."""
        if not self._counts:
            answer = await self._scheduler.run_function(function=dumps(_let_count), wait=True)
            self._counts = bool(answer["status"] == "OK")
        return int(await self._scheduler.moorage_clients()) if self._counts else None

    def _report(self, name: str, now: float) -> WorkerReport:
        since = self._idle_since.get(name)
        return WorkerReport(name=name, busy=since is None, idle_s=0.0 if since is None else now - since)

    async def retire(self, names: list[str]) -> None:
        """In the background: the data of a worker moves to others before it goes, which may take a while."""
        if self._scheduler is None:
            return
        self._retiring = {name: task for name, task in self._retiring.items() if not task.done()}
        closable = set(await self._scheduler.workers_to_close(attribute="name"))
        for name in names:
            if name not in self._retiring and name in closable:
                log.info("retiring %s", name)
                self._retiring[name] = asyncio.create_task(self._send_away(name))

    async def _send_away(self, name: str) -> None:
        try:
            await self._scheduler.retire_workers(names=[name], close_workers=True, remove=True)
        except OSError as error:
            log.warning("retiring %s failed: %s", name, error)

    async def _drop(self) -> None:
        if self._scheduler is not None:
            scheduler, self._scheduler, self._counts = self._scheduler, None, False
            await scheduler.close_rpc()


def _let_count(dask_scheduler: Any) -> None:
    """Runs on the scheduler, once: asked by a function each time, it would log a line each time."""

    def moorage_clients() -> int:
        inner = ("fire-and-forget", "Client-worker-")
        return sum(1 for name in dask_scheduler.clients if not name.startswith(inner))

    dask_scheduler.handlers["moorage_clients"] = moorage_clients
