"""The spawner's talk with the service: may this notebook start, and what was seen of it."""

import asyncio
import logging
import time

from moorage import calls
from moorage.asyncclient import AsyncClient
from moorage.call import new_key
from moorage.errors import Conflict, LimitRefused, MoorageError
from moorage.wire import NotebookAdmission, NotebookForgotten, NotebookObservation, NotebookRequest

EARLIER_S = 20.0  # how long a start waits for what is left of the notebook's earlier server
RETRY_S = 0.5

log = logging.getLogger(__name__)


class Refused(Exception):
    """The notebook may not start. The text is a sentence for its owner; `reason` a short label, `status` for HTTP."""

    def __init__(self, message: str, *, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


class Admissions:
    """The service's API as the hub calls it, with the hub's own token."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    async def admit(self, request: NotebookRequest) -> NotebookAdmission:
        """Asks for room. Waits a little for an earlier server of the same notebook to end. Raises Refused."""
        deadline = time.monotonic() + EARLIER_S
        async with AsyncClient(self._url, self._token) as client:
            while True:
                try:
                    return await client.send(calls.admit_notebook(request, new_key()))
                except LimitRefused as error:
                    raise Refused(error.message, reason="limit", status=409) from error
                except Conflict as error:
                    if error.error_code != "notebook_exists" or time.monotonic() > deadline:
                        raise Refused(error.message, reason="conflict", status=409) from error
                except MoorageError as error:
                    status = getattr(error, "status", 503)
                    reason = "service" if status >= 500 else "refused"
                    raise Refused(error.message, reason=reason, status=status) from error
                await asyncio.sleep(RETRY_S)

    async def observe(self, workload_id: str, observation: NotebookObservation) -> None:
        """Tells what was seen. Only a hint: a service that is down sees the shim's record later, so errors are logged."""
        try:
            async with AsyncClient(self._url, self._token) as client:
                await client.send(calls.observe_notebook(workload_id, observation))
        except MoorageError as error:
            log.warning("The service was not told that %s is %s: %s", workload_id, observation.state, error)

    async def forget(self, user: str, project: str) -> None:
        """Says that a start was cut off before its answer. A service that is down gives it up later, by its lease."""
        try:
            async with AsyncClient(self._url, self._token) as client:
                await client.send(calls.forget_notebook(NotebookForgotten(user=user, project=project)))
        except MoorageError as error:
            log.warning("The service was not told that the start of %s of %s was cut off: %s", project, user, error)
