"""Reports to the service, with the run's own token: progress as it happens, outputs when there are new ones.

A thread of its own sends, so that a slow service never holds up a cell. Only the latest progress and the latest state
of each output are kept; while the service is away they are retried.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import httpx

from moorage.wire.jobs import RunProgress

log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 5.0
_HURRIED_S = 4.0


@dataclass(frozen=True)
class Service:
    """Where to report: the base URL of the service, the run's id and its token."""

    url: str
    run: str
    token: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Service | None":
        """From MOORAGE_API_URL, MOORAGE_WORKLOAD and MOORAGE_TOKEN; None if the runner is used alone."""
        values = [environment.get(name, "") for name in ("MOORAGE_API_URL", "MOORAGE_WORKLOAD", "MOORAGE_TOKEN")]
        return cls(values[0].rstrip("/"), values[1], values[2]) if all(values) else None


class Reports:
    """The queue and its thread. Every method returns at once, save `finish`."""

    def __init__(self, service: Service, *, every_s: float) -> None:
        self._base = f"/api/v1/runs/{service.run}"
        self._client = httpx.Client(
            base_url=service.url,
            headers={"Authorization": f"Bearer {service.token}"},
            timeout=httpx.Timeout(30.0, connect=5.0),
            trust_env=False,
        )
        self._every = every_s
        self._wake = threading.Condition()
        self._progress: RunProgress | None = None
        self._outputs: dict[str, bytes] = {}
        self._closing_at: float | None = None  # monotonic: when to give up
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
        self._thread.start()

    def progress(self, report: RunProgress) -> None:
        with self._wake:
            self._progress = report
            self._wake.notify()

    def output(self, name: str, content: bytes) -> None:
        with self._wake:
            self._outputs[name] = content
            self._wake.notify()

    def finish(self, patience_s: float, hurried: Callable[[], bool]) -> bool:
        """Sends what is left, for at most `patience_s`, or a few seconds once `hurried()` says that time is short.

        Returns whether all of it arrived or was refused for good.
        """
        with self._wake:
            self._closing_at = time.monotonic() + patience_s
            self._wake.notify()
        while self._thread.is_alive():
            self._thread.join(0.2)
            with self._wake:
                if hurried():
                    self._closing_at = min(self._closing_at, time.monotonic() + _HURRIED_S)
                if time.monotonic() > self._closing_at + _HURRIED_S:
                    break  # a request hangs: its thread ends with the process
        return self._progress is None and not self._outputs

    def _run(self) -> None:
        failures = 0
        while True:
            with self._wake:
                self._wake.wait_for(self._due)
                if self._over():
                    return
                progress, outputs = self._progress, dict(self._outputs)
            sent = self._send(progress, outputs)
            failures = 0 if sent else failures + 1
            with self._wake:
                if sent:  # one report at a time is enough for a person's eye
                    self._wake.wait_for(lambda: self._closing_at is not None, timeout=self._every)
                else:
                    self._wake.wait_for(self._over, timeout=min(_LONGEST_PAUSE_S, 0.25 * 2 ** min(failures, 8)))

    def _due(self) -> bool:
        return self._progress is not None or bool(self._outputs) or self._closing_at is not None

    def _over(self) -> bool:
        if self._closing_at is None:
            return False
        return (self._progress is None and not self._outputs) or time.monotonic() >= self._closing_at

    def _send(self, progress: RunProgress | None, outputs: dict[str, bytes]) -> bool:
        """Sends all of it; what arrived, or was refused for good, leaves the queue. False: try again later."""
        try:
            if progress is not None:
                self._ask("POST", "/progress", json=asdict(progress))
                with self._wake:
                    if self._progress is progress:
                        self._progress = None
            for name, content in outputs.items():
                self._ask("PUT", f"/outputs/{name}", content=content)
                with self._wake:
                    if self._outputs.get(name) is content:
                        del self._outputs[name]
        except httpx.HTTPError as error:
            log.info("The service cannot be reached (%s); the report is kept and sent again.", type(error).__name__)
            return False
        return True

    def _ask(self, method: str, path: str, *, json: object = None, content: bytes | None = None) -> None:
        response = self._client.request(method, self._base + path, json=json, content=content)
        if response.status_code >= 500 or response.status_code == 429:
            response.raise_for_status()
        if response.is_error:  # refused for good: sending it again would change nothing
            log.warning("The service refused %s %s with %d: %.300s", method, path, response.status_code, response.text)
