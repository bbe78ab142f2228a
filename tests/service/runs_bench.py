"""The service with everything that runs need, over real HTTP: routes, reconcilers, the clock, real processes."""

import threading
from typing import Any

import httpx
import uvicorn

from moorage_service.app import STEPS, SURVEYS, create_app
from moorage_service.context import Context
from moorage_service.jobs.clock import ScheduleClock
from moorage_service.reconciler.loop import Reconciler, make_reconcilers
from tests.service.conftest import Headers
from tests.service.jobs_bench import API, promotion
from tests.waiting import eventually


class Service:
    """The service over HTTP, with the loops that runs need; builds of environments are not among them."""

    def __init__(self, context: Context, ada: Headers) -> None:
        self.context = context
        self.http = httpx.Client(base_url=context.settings.url + API, headers=ada, trust_env=False, timeout=30)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loops: list[Reconciler | ScheduleClock] = []

    def start(self) -> None:
        settings = self.context.settings
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(self.context, background=False),
                host=settings.host,
                port=settings.port,
                log_level="warning",
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        eventually(lambda: self._server is not None and self._server.started, what="the service")
        self._loops = [*make_reconcilers(self.context, STEPS, SURVEYS), ScheduleClock(self.context)]
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        for loop in self._loops:
            loop.stop()
        self._server.should_exit = True
        self._thread.join(30)

    def promote(self, content: bytes, **more: Any) -> Any:
        answer = self.http.post("/jobs", json=promotion(content, **more))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def start_run(self, job: Any, **parameters: Any) -> str:
        answer = self.http.post(f"/jobs/{job['id']}/runs", json={"parameters": parameters})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def run(self, run_id: str) -> Any:
        return self.http.get(f"/runs/{run_id}").json()

    def until(self, run_id: str, *phases: str, within: float = 60) -> Any:
        eventually(lambda: self.run(run_id)["phase"] in phases, within=within, what=f"{run_id} in {phases}")
        return self.run(run_id)

    def output(self, run_id: str, name: str) -> httpx.Response:
        return self.http.get(f"/runs/{run_id}/outputs/{name}")

    def close(self) -> None:
        """Ends the service and every process that it started."""
        self.stop()
        processes = self.context.processes
        for seen in processes.observe_all():
            processes.stop(seen.workload_id, grace_s=0)
        eventually(lambda: all(seen.gone for seen in processes.observe_all()), what="the end of all processes")
        self.http.close()
