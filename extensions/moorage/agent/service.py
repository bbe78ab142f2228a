"""Reports to the service, over one connection that is kept open.

`http.client`, for the agent must start quickly and bring nothing into the project's environment; and it ignores the
proxy settings of the environment, which are for the internet.
"""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import logging
from urllib.parse import urlsplit

from moorage.wire import AgentOrders, AgentReport

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0


class Service:
    """`report` answers None while the service is away: what is seen then is told by a later report."""

    def __init__(self, api_url: str, token: str) -> None:
        parts = urlsplit(api_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        self._path = parts.path.rstrip("/") + "/api/v1/agent/reports"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._away = False

    async def report(self, report: AgentReport) -> AgentOrders | None:
        body = json.dumps(dataclasses.asdict(report))
        try:
            status, text = await asyncio.to_thread(self._post, body)
        except (OSError, http.client.HTTPException) as error:
            self._tell_away(f"{type(error).__name__}: {error}")
            return None
        if status != 200:
            self._tell_away(f"status {status}: {text[:300].decode(errors='replace')}")
            return None
        if self._away:
            log.info("the service answers again")
            self._away = False
        answer = json.loads(text)
        if answer.get("token"):
            self._headers["Authorization"] = f"Bearer {answer['token']}"
        return AgentOrders(retire=list(answer.get("retire", [])), interval_s=float(answer.get("interval_s", 1.0)))

    def close(self) -> None:
        self._connection.close()

    def _post(self, body: str) -> tuple[int, bytes]:
        try:
            return self._request(body)
        except (OSError, http.client.HTTPException):
            # A kept connection that the other side has closed shows only now; a report may be sent twice.
            return self._request(body)

    def _request(self, body: str) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            with contextlib.suppress(OSError):
                self._connection.close()
            raise

    def _tell_away(self, why: str) -> None:
        if not self._away:
            log.warning("the service can't be told (%s); trying on", why)
        self._away = True
