"""One pod of a build, from its making to its end: its containers' logs line by line, its end in words, and nothing of it left."""

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from kubernetes_asyncio.client import ApiClient

from moorage_images.errors import BuildCancelledError, BuildError
from moorage_images.resolve import NoWheelError
from moorage_images.sandbox import Log
from moorage_spawners.launch import pod_logs
from moorage_spawners.launch.api_objects import Expired, Resource, Unanswered, send
from moorage_spawners.launch.errors import PodRefusedError
from moorage_spawners.launch.object_calls import WITHIN_S, keep, make, path_of, remove
from moorage_spawners.launch.pauses import pause_s
from moorage_spawners.launch.reasons import Reason, explain
from moorage_spawners.launch.reasons.reading import states, status
from moorage_spawners.launch.types import Object

LOOK_S = 0.5  # between two looks at a pod
LONGEST_PAUSE_S = 10.0  # when the API server does not answer, or there is no room
RIGHTS_S = 15.0  # after a binding is made until the API server goes by it, at most
LONGEST_LINE = 16 << 20  # bytes: a lock is one line
MOST_LINES = 200_000  # of one container
MOST_UNREAD = 20  # looks after its end: then its machine no longer hands out its log
_ONCE = ("Namespace", "RoleBinding")  # what they say can't be changed by the service
_ROOM = ("pod.quota", "pod.quota_unknown")
_MORE = {
    "pod.out_of_memory": "The build used more memory than it may. Ask for packages with wheels, or ask an admin to raise `builds.memory`.",
    "pod.scratch_full": "The build filled more of the disk than it may. Ask for fewer packages, or ask an admin to raise `builds.disk`.",
    "pod.evicted": "The machine ran out of memory or disk, and the build was ended for it. Build again, or tell an admin.",
    "pod.deadline": "The build took longer than it may and was ended. Ask for fewer packages, or ask an admin to raise `builds.timeout`.",
}


class NotMadeError(BuildError):
    """The cluster does not take the pod."""


@dataclass(frozen=True, kw_only=True)
class PodRun:
    """`objects`: what its namespace holds; it is made anew where it is missing. `guard` raises when this process may act no more.

    `hear` gets each line of the containers' logs; `log` what else there is to say; `within_s` bounds the whole.
    """

    api: ApiClient
    objects: Sequence[Object]
    guard: Callable[[], None]
    hear: Log
    log: Log
    cancel: threading.Event
    within_s: float

    async def run(self, pod: Object, secret: Object) -> Object:
        """The pod as it ended, well. Raises BuildCancelledError; NoWheelError and BuildError with what its program said, or the reason."""
        deadline = time.monotonic() + self.within_s
        try:
            await self._begin(pod, secret, deadline)
            ended = await self._follow(pod, deadline)
        finally:
            for each in (pod, secret):
                with contextlib.suppress(Unanswered, PodRefusedError):  # the sweep of the next upkeep takes it
                    await remove(self.api, each, grace_s=1 if each["kind"] == "Pod" else None)
        if status(ended).get("phase") != "Succeeded":
            raise _failure(ended, await self._reason(ended))
        return ended

    async def _begin(self, pod: Object, secret: Object, deadline: float) -> None:
        """Makes it, as soon as there is room for it."""
        told = ""
        patience = time.monotonic() + RIGHTS_S
        for failures in itertools.count(1):
            self._look(deadline)
            try:
                for each in self.objects:
                    self.guard()
                    await (make if each["kind"] in _ONCE else keep)(self.api, each)
                self.guard()
                await keep(self.api, secret)
                await make(self.api, pod)
                return
            except Unanswered as error:
                said = str(error)
            except PodRefusedError as error:
                fresh = error.code == "pod.not_permitted" and time.monotonic() < patience
                if not (error.waits or fresh or error.code in _ROOM):
                    raise NotMadeError(f"The build's pod can't be made. {error}") from error
                said = "" if fresh else "Waiting for room." if error.code in _ROOM else f"Waiting. {error}"
            if said and said != told:
                self.log(said)
                told = said
            await self._pause(failures, deadline)

    async def _pause(self, failures: int, deadline: float) -> None:
        """After so many in a row. Raises as `_look` does, soon."""
        until = time.monotonic() + pause_s(failures, first_s=2 * LOOK_S, longest_s=LONGEST_PAUSE_S)
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, LOOK_S))
            self._look(deadline)

    async def _follow(self, pod: Object, deadline: float) -> Object:
        """Until it has ended and its logs were read, container by container."""
        spec = pod["spec"]
        names = [each["name"] for each in (*spec["initContainers"], *spec["containers"])]
        told, unread, failures = "", 0, 0
        async with _reading(self, pod) as read:
            while True:
                self._look(deadline)
                seen = await self._seen(pod)
                if seen is None:
                    failures += 1
                    await self._pause(failures, deadline)
                    continue
                pod, failures = seen, 0
                heard = await read(pod, names)
                if status(pod).get("phase") in ("Succeeded", "Failed"):
                    unread += not heard
                    if heard or unread > MOST_UNREAD:
                        return pod
                elif heard and not any(True for _ in states(pod, "running")):
                    reason = await self._reason(pod)
                    if reason is not None and not reason.waits:
                        raise _failure(pod, reason)
                    if reason is not None and reason.code not in (told, "image.pulling"):
                        told = reason.code
                        self.log(f"Waiting. {reason}")
                await asyncio.sleep(LOOK_S)

    def _look(self, deadline: float) -> None:
        if self.cancel.is_set():
            raise BuildCancelledError("The build was cancelled.")
        if time.monotonic() > deadline:
            raise BuildError(
                f"The build's pod did not end within {self.within_s:.0f} s. Build again, or ask an admin to raise `builds.timeout`."
            )

    async def _seen(self, pod: Object) -> Object | None:
        """As it is now; None when the server does not say."""
        with contextlib.suppress(Unanswered):
            code, answer = await send(self.api, "GET", path_of(pod), None, within_s=WITHIN_S)
            if code == 200:
                return {"apiVersion": "v1", "kind": "Pod", **answer}
            if code == 404:
                raise BuildError("The pod that built was removed from the cluster. Build again.")
        return None

    async def _reason(self, pod: Object) -> Reason | None:
        metadata = pod["metadata"]
        fields = f"involvedObject.name={metadata['name']}"
        try:
            events = await Resource(self.api, "events", metadata["namespace"], fields=fields).read_all(
                page_within_s=WITHIN_S
            )
        except (Unanswered, Expired):
            return explain(pod, (), datetime.now(UTC))
        return explain(pod, events.objects, datetime.now(UTC))


@asynccontextmanager
async def _reading(run: PodRun, pod: Object) -> AsyncIterator["_Reader"]:
    reader = _Reader(run, pod)
    try:
        yield reader
    finally:
        await reader.end()


class _Reader:
    """Reads the logs of a pod's containers, one after another. Call it with the pod as it is seen: whether all there is was read."""

    def __init__(self, run: PodRun, pod: Object) -> None:
        self._run = run
        self._pod = pod["metadata"]
        self._at = 0  # which container
        self._heard = 0  # lines of it
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, seen: Object, names: Sequence[str]) -> bool:
        while self._at < len(names):
            state = _state(seen, names[self._at])
            if not state.keys() & {"running", "terminated"}:
                return True  # it has not begun, or never will
            if self._task is None:
                self._task = asyncio.create_task(self._read(names[self._at]))
            await asyncio.wait([self._task], timeout=10 * LOOK_S if "terminated" in state else LOOK_S)
            if not self._task.done():
                return False
            whole = self._task.exception() is None and "terminated" in state
            if (error := self._task.exception()) is not None and not isinstance(error, Unanswered):
                raise error
            self._task = None
            if not whole:
                return False  # from its beginning again; what was heard is left out
            self._at, self._heard = self._at + 1, 0
        return True

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _read(self, container: str) -> None:
        number = 0
        lines = pod_logs.lines(
            self._run.api, self._pod["namespace"], self._pod["name"], container, longest=LONGEST_LINE
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                number += 1
                if self._heard < number <= MOST_LINES:
                    self._heard = number
                    self._run.hear(line)


def _state(pod: Object, container: str) -> Object:
    found = (*(status(pod).get("initContainerStatuses") or ()), *(status(pod).get("containerStatuses") or ()))
    return next((each.get("state") or {} for each in found if each["name"] == container), {})


def message_of(pod: Object, container: str) -> dict[str, object]:
    """What a container's program left as its last words, if that is a JSON object."""
    try:
        said = json.loads(_state(pod, container).get("terminated", {}).get("message") or "")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _failure(pod: Object, reason: Reason | None) -> BuildError:
    names = [
        each["name"] for kind in ("initContainerStatuses", "containerStatuses") for each in status(pod).get(kind) or ()
    ]
    for name in names:
        said = message_of(pod, name)
        if isinstance(message := said.get("message"), str) and message:
            return NoWheelError(message) if said.get("error") == NoWheelError.code else BuildError(message)
    if reason is None:
        return BuildError("The build's pod failed, and nothing was said of why. Build again, or tell an admin.")
    return _in_words(reason)


def _in_words(reason: Reason) -> BuildError:
    return BuildError(_MORE.get(reason.code) or f"The build's pod did not do its work. {reason}")
