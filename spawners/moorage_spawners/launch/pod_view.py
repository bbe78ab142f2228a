"""One pod and what is said of it, followed as it happens: how a start stands, in words, for whoever waits for it.

It asks for that one name in that one namespace, so it needs no right beyond; what is said of the pod are its status and its events.
"""

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.api_objects import Resource
from moorage_spawners.launch.observed import REMOVED, departed, now_utc, observe
from moorage_spawners.launch.reasons import explain
from moorage_spawners.launch.reasons.reading import condition, status
from moorage_spawners.launch.timing import Timing
from moorage_spawners.launch.types import Object, Observation
from moorage_spawners.launch.watch import Change, Watcher

T = TypeVar("T")
_NUMBERS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Standing:
    """How a pod stands. `said`: a sentence for its owner; two that differ in numbers alone count as one. `code`: of the reason in it.

    `address`: the pod's own, when it is ready. `ended`: for certain, or it never was.
    """

    state: Literal["waiting", "ready", "ended"]
    said: str = field(compare=False)
    code: str | None = None
    address: str | None = None
    topic: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "topic", _NUMBERS.sub("", self.said))


def standing(pod: Object, events: Sequence[Object], now: datetime) -> Standing:
    """How a pod stands that is there."""
    seen = observe(pod, now, events)
    if seen is not None and seen.gone:
        return _ended(seen)
    address = address_of(pod)
    if address is not None and condition(pod, "Ready").get("status") == "True":
        return Standing("ready", "It answers.", address=address)
    reason = explain(pod, events, now)
    if reason is not None:
        return Standing("waiting", str(reason), reason.code)
    if pod["metadata"].get("deletionTimestamp"):
        return Standing("waiting", "Its pod is being removed.")
    if seen is not None and seen.state == "running":
        return Standing("waiting", "Waiting for the notebook server to answer.")
    found = condition(pod, "PodScheduled").get("status") == "True" or (pod.get("spec") or {}).get("nodeName")
    return Standing("waiting", "A machine was found and makes it ready." if found else "Looking for a machine.")


def address_of(pod: Object) -> str | None:
    """A pod's own; it keeps it for its life."""
    return status(pod).get("podIP") or None


def _ended(seen: Observation | None) -> Standing:
    if seen is None:
        return Standing("ended", REMOVED)
    how = f"by signal {seen.signal}" if seen.signal else f"with exit status {seen.exit_code}"
    return Standing("ended", seen.message or f"It ended {how}.", seen.reason)


class PodView:
    """Follows a pod that is there, or is about to be made, between `async with` and its end."""

    def __init__(self, api: ApiClient, namespace: str, name: str, *, timing: Timing | None = None) -> None:
        self._key = namespace, name
        pod = Resource(api, "pods", namespace=namespace, fields=f"metadata.name={name}")
        events = Resource(api, "events", namespace=namespace, fields=f"involvedObject.name={name}")
        self.pods = Watcher([pod], timing=timing)
        self._events = Watcher([events], timing=timing)
        self._last: Object | None = None
        self._stack = AsyncExitStack()
        self.pods.listen(self._take)

    def _take(self, change: Change) -> None:
        self._last = change.object

    async def __aenter__(self) -> "PodView":
        await self._stack.enter_async_context(self.pods)
        await self._stack.enter_async_context(self._events)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    @property
    def trouble(self) -> str | None:
        """Why nothing new can be heard just now, as a sentence."""
        return self.pods.trouble

    def standing(self) -> Standing | None:
        """How it stands now; None while nothing is known yet."""
        pod = self.pods.get(*self._key)
        if pod is not None:
            return standing(pod, self._events.objects(), now_utc())
        if self.pods.age() == math.inf:
            return None
        return _ended(None if self._last is None else departed(self._last, now_utc(), self._events.objects()))

    async def news(self, since: Standing | None) -> Standing:
        """The next standing that is another than `since`; at once when it is one already. Bound it with asyncio.timeout."""

        def changed() -> Standing | None:
            found = self.standing()
            return None if found == since else found

        return await self._first(changed)

    async def _first(self, condition: Callable[[], T | None]) -> T:
        """The first answer that is not None, asked at every change of the pod or its events."""
        asking = [asyncio.create_task(watcher.until(condition)) for watcher in (self.pods, self._events)]
        try:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in asking:
                task.cancel()
