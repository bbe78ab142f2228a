"""A picture of what runs in Kubernetes, kept up to date by lists and streams, and how old it may be.

One cycle is a complete list and the stream of changes after it; whatever ends a stream, the next cycle lists again. That something
is gone is said only by a complete list or by the stream of the present cycle, never because it was not heard of.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from moorage_spawners.launch.api_objects import Expired, Listing, Resource, Sent, Silent, Unanswered
from moorage_spawners.launch.pauses import pause_s
from moorage_spawners.launch.timing import Timing
from moorage_spawners.launch.types import Object

T = TypeVar("T")
Key = tuple[str, str]  # namespace, name
OLD_LISTS = 3  # in a row: then it was no slow replica, the server's database was restored from a backup

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """`seen`: new or changed. `gone`: certainly no longer there; the object is as it was seen last."""

    kind: Literal["seen", "gone"]
    object: Object


class Watcher:
    """Keeps the picture of one or more resources, in one task: start it with `async with`."""

    def __init__(self, resources: Sequence[Resource], *, timing: Timing | None = None) -> None:
        self._listeners: list[Callable[[Change], None]] = []
        self._timing = timing or Timing()
        self._scopes = [_Scope(resource, self._timing, self._tell) for resource in resources]
        self._moved = asyncio.Event()
        self._running = False

    def add(self, resource: Resource) -> None:
        """Watches one more, of another namespace than those there are."""
        scope = _Scope(resource, self._timing, self._tell)
        self._scopes.append(scope)
        if self._running:
            scope.begin()

    def drop(self, namespace: str) -> None:
        """The namespace is gone for certain, and so is all that was in it. It is watched no longer."""
        for scope in [each for each in self._scopes if each.resource.namespace == namespace]:
            self._scopes.remove(scope)
            scope.end()
            self._tell([Change("gone", each) for each in scope.known.values()])

    def namespaces(self) -> set[str]:
        """Those that are watched, each by itself."""
        return {scope.resource.namespace for scope in self._scopes if scope.resource.namespace is not None}

    def listen(self, to: Callable[[Change], None]) -> None:
        """`to` is called in the watcher's task, for every change from now on; before the start, so that it hears of all."""
        self._listeners.append(to)

    async def __aenter__(self) -> "Watcher":
        self._running = True
        for scope in self._scopes:
            scope.begin()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._running = False
        tasks = [task for scope in self._scopes if (task := scope.end()) is not None]
        if tasks:
            await asyncio.wait(tasks)

    def objects(self) -> list[Object]:
        """As they were seen last, however long ago that is."""
        return [each for scope in self._scopes for each in scope.known.values()]

    def get(self, namespace: str, name: str) -> Object | None:
        return next((scope.known[namespace, name] for scope in self._scopes if (namespace, name) in scope.known), None)

    def age(self, namespace: str | None = None) -> float:
        """Seconds since the server last bore out the picture (of a namespace, or the oldest of all), by a list or a line of a stream.

        Infinite before the first list, and of a namespace that is not watched.
        """
        asked = [scope for scope in self._scopes if namespace is None or scope.resource.namespace in (None, namespace)]
        return max((time.monotonic() - scope.fresh_at for scope in asked), default=math.inf)

    def fresh_within(self, seconds: float, namespace: str | None = None) -> bool:
        """Whether anything may be decided by the picture: what is not in it was not there `seconds` ago."""
        return self.age(namespace) <= seconds

    def listed_since(self, moment: float) -> bool:
        """Whether complete lists were begun after `moment` of the monotonic clock: what was made before it would be in them."""
        return all(scope.listed_at > moment for scope in self._scopes)

    @property
    def trouble(self) -> str | None:
        """Why the picture can't be renewed just now, as a sentence."""
        return next((scope.trouble for scope in self._scopes if scope.trouble), None)

    def note(self, made: Object) -> None:
        """Takes in an object that was made or changed by ourselves, as the server answered it, so that we see what we did."""
        for scope in self._scopes:
            if scope.resource.namespace in (None, made["metadata"]["namespace"]):
                scope.note(made)
                return

    async def until(self, condition: Callable[[], T | None]) -> T:
        """The first answer that is not None; the condition is asked now and at every change. Bound it with asyncio.timeout."""
        while True:
            moved = self._moved
            found = condition()
            if found is not None:
                return found
            await moved.wait()

    def _tell(self, changes: Sequence[Change]) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        for change, listener in itertools.product(changes, self._listeners):
            try:
                listener(change)
            except Exception:  # the picture stays right, whatever a listener makes of it
                log.exception("A change of %s was not taken in", change.object["metadata"].get("name"))


@dataclass
class _Scope:
    """The picture of one resource."""

    resource: Resource
    timing: Timing
    tell: Callable[[Sequence[Change]], None]
    known: dict[Key, Object] = field(default_factory=dict)
    task: "asyncio.Task[None] | None" = None
    position: str = ""  # the version up to which the picture is known to be right
    fresh_at: float = -math.inf
    listed_at: float = -math.inf
    trouble: str | None = None
    _old_lists: int = 0

    def begin(self) -> None:
        self.task = asyncio.create_task(self.run())

    def end(self) -> "asyncio.Task[None] | None":
        """The task that ends, if there was one."""
        if self.task is not None:
            self.task.cancel()
        return self.task

    async def run(self) -> None:
        failures = 0
        while True:
            begun, wish = time.monotonic(), 0.0
            try:
                await self._cycle()
            except Expired:
                log.info("%s: the server has forgotten where we were; listing again", self.resource.path)
            except Silent:  # the next list says whether anybody is there
                log.debug("%s: nothing was heard for %g s; listing again", self.resource.path, self.timing.silence_s)
            except Unanswered as error:
                wish = error.retry_after_s
                self._failed(str(error))
            except Exception:
                log.exception("%s: an answer that could not be taken in", self.resource.path)
                self._failed("An answer of the API server could not be taken in; the log says more.")
            failures = 0 if time.monotonic() - begun >= self.timing.steady_s else failures + 1
            await asyncio.sleep(self._pause(failures, wish))

    def _failed(self, sentence: str) -> None:
        if self.trouble is None:
            log.warning("%s", sentence)
        self.trouble = sentence

    def _pause(self, failures: int, wish: float) -> float:
        pause = pause_s(failures, first_s=self.timing.first_pause_s, longest_s=self.timing.longest_pause_s)
        return max(pause, min(wish, 6 * self.timing.longest_pause_s))

    async def _cycle(self) -> None:
        begun = time.monotonic()
        self._replace(await self.resource.read_all(page_within_s=self.timing.page_within_s), begun)
        lasts_s = self.timing.resync_s * random.uniform(0.8, 1)  # noqa: S311 - many watchers, not all at once
        stream = self.resource.watch(self.position, lasts_s=lasts_s, silence_s=self.timing.silence_s)
        async with contextlib.aclosing(stream):
            async for sent in stream:
                self._take(sent)

    def _replace(self, listing: Listing, begun: float) -> None:
        restored = _older(listing.version, self.position)
        if restored and self._old_lists < OLD_LISTS:
            self._old_lists += 1
            raise Unanswered(f"The API server answered {self.resource.path} with an older state than before.")
        self._old_lists = 0
        new = {_key(each): each for each in listing.objects}
        changes = []
        for key, last in list(self.known.items()):
            # What we made while the list was under way is newer than it.
            if key not in new and not restored and _older(listing.version, _version(last)):
                new[key] = last
            elif key not in new or _uid(new[key]) != _uid(last):
                changes.append(Change("gone", last))
        changes += [Change("seen", each) for key, each in new.items() if each != self.known.get(key)]
        self.known, self.position = new, listing.version
        self.fresh_at, self.listed_at = begun, begun
        if self.trouble is not None:
            log.info("%s: heard of again", self.resource.path)
            self.trouble = None
        self.tell(changes)

    def _take(self, sent: Sent) -> None:
        version = _version(sent.object)
        if _older(version, self.position):
            return  # out of order: what is known is newer
        self.position, self.fresh_at = version, time.monotonic()
        if sent.kind == "BOOKMARK":
            return
        key = _key(sent.object)
        last = self.known.get(key)
        another = last is not None and _uid(last) != _uid(sent.object)
        if sent.kind == "DELETED":
            if last is not None and not another:
                del self.known[key]
                self.tell([Change("gone", sent.object)])
            return
        if last is not None and not another and not _older(_version(last), version):
            return  # noted by ourselves, this or a later state of it
        self.known[key] = sent.object
        replaced = [Change("gone", last)] if last is not None and another else []
        self.tell([*replaced, Change("seen", sent.object)])

    def note(self, made: Object) -> None:
        key, version = _key(made), _version(made)
        last = self.known.get(key)
        if _older(version, self.position) or (last is not None and not _older(_version(last), version)):
            return  # the picture has it, or has seen it go
        replaced = [Change("gone", last)] if last is not None and _uid(last) != _uid(made) else []
        self.known[key] = made
        self.tell([*replaced, Change("seen", made)])


def _key(each: Object) -> Key:
    return each["metadata"].get("namespace", ""), each["metadata"]["name"]


def _uid(each: Object) -> str:
    return str(each["metadata"].get("uid", ""))


def _version(each: Object) -> str:
    return str(each["metadata"]["resourceVersion"])


def _older(one: str, other: str) -> bool:
    """Versions of one kind of object are numbers that grow; those that are none can't be compared, and none is older."""
    return one.isdecimal() and other.isdecimal() and int(one) < int(other)
