"""The agent's loop: look, report, carry out the orders."""

import asyncio
import contextlib
import logging

from moorage.agent.config import AgentConfig
from moorage.agent.engine import Engine, Sight
from moorage.agent.service import Service
from moorage.wire import AgentReport

log = logging.getLogger(__name__)
LOOK_S = 0.2  # between looks until the cluster is ready, so that nobody waits for the reporting interval
PORT_TIMEOUT_S = 2.0


class Agent:
    def __init__(self, config: AgentConfig, engine: Engine, service: Service) -> None:
        self._config = config
        self._engine = engine
        self._service = service
        self._ports_answered = False
        self._told: tuple[bool, frozenset[str], int] | None = None
        self._idle_since: float | None = None

    async def run(self) -> None:
        """Until the process is ended."""
        interval = 1.0
        last = float("-inf")
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            report = self._report_of(await self._look(), clock())
            # A change is told at once, anything else once per interval.
            news = (report.ready, frozenset(worker.name for worker in report.workers), report.wanted)
            if news != self._told or started - last >= interval * 0.95:
                last = started
                orders = await self._service.report(report)
                if orders is not None:
                    self._told = news
                    interval = max(0.1, orders.interval_s)
                    if orders.retire:
                        await self._retire(orders.retire)
            pause = min(LOOK_S, interval) if not report.ready or self._told is None else interval
            await asyncio.sleep(max(0.05, pause - (clock() - started)))

    async def _look(self) -> Sight:
        try:
            sight = await self._engine.look()
        except Exception:
            log.exception("looking at the engine failed")
            return Sight(answers=False, message="The engine could not be asked; its log says more.")
        if sight.answers and not self._ports_answered:
            self._ports_answered = await self._try_ports()
        return sight

    async def _try_ports(self) -> bool:
        for port in self._config.ports:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), PORT_TIMEOUT_S)
            except (OSError, TimeoutError):
                return False
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return True

    async def _retire(self, names: list[str]) -> None:
        try:
            await self._engine.retire(names)
        except Exception:
            log.exception("retiring %s failed", ", ".join(names))

    def _report_of(self, sight: Sight, now: float) -> AgentReport:
        enough = len(sight.workers) >= self._config.min_workers
        # Time in which it could not be told was not idle: it counts from the first look that saw it so.
        if not sight.idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        idle_s = 0.0 if self._idle_since is None else now - self._idle_since
        return AgentReport(
            generation=self._config.generation,
            ready=sight.answers and self._ports_answered and enough,
            versions=sight.versions,
            workers=sight.workers,
            wanted=sight.wanted,
            clients=sight.clients,
            idle_s=None if sight.idle is None else idle_s,
            message=sight.message,
        )
