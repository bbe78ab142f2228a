"""Workloads as pods, in the namespaces of one installation, for threads: what keeps workloads need not know where they run."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.api_client import connect
from moorage_spawners.launch.api_objects import Resource, Unanswered, read_log
from moorage_spawners.launch.api_thread import ApiThread
from moorage_spawners.launch.errors import LaunchError, PodRefusedError, StaleViewError
from moorage_spawners.launch.labels import OURS, Ownership
from moorage_spawners.launch.object_calls import list_of, make_own, remove
from moorage_spawners.launch.observed import PodObserver
from moorage_spawners.launch.own_namespaces import OwnNamespaces
from moorage_spawners.launch.pod_calls import PodCalls
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.timing import STALE_AFTER_S, Timing
from moorage_spawners.launch.types import Object, Observation
from moorage_spawners.launch.unlabelled_pods import UnlabelledPods
from moorage_spawners.launch.watch import Watcher

FIRST_LISTS_S, PODS_LISTS_S = 60.0, 10.0
PREPARED_S = 25.0  # the hub waits 30 s
NOT_PERMITTED = "pod.not_permitted"
RIGHTS_S, RIGHTS_PAUSE_S = 10.0, 0.1
SECRET = {"apiVersion": "v1", "kind": "Secret"}
LOG_LINES = 200
LOG_WITHIN_S = 10.0
HEARD_WITHIN_S = 5.0  # a page, or a scrape, waits for this
log = logging.getLogger(__name__)


class PodProcesses:
    """Watches from its making on; `close` it. `namespace_of`: where a workload runs, None for one that nobody knows."""

    def __init__(
        self, managed_by: str, namespaces: Sequence[str], settings: PodSettings, *,
        namespace_of: Callable[[str], str | None], changed: Callable[[], None],
        timing: Timing | None = None, stale_after_s: float = STALE_AFTER_S,
    ) -> None:  # fmt: skip
        """`namespaces`: made by an admin; where there are none, those that carry our label, as they come and go. `changed`: called in
        another thread when anything of a pod did. Raises LaunchError when the cluster can't be seen.
        """
        self.thread = ApiThread()
        self._managed_by = managed_by
        self._namespace_of = namespace_of
        self._changed = changed
        self._timing = timing
        self._stale_after_s = stale_after_s
        self._guard: Callable[[], None] = lambda: None
        try:
            self.thread.wait(self._open(namespaces, settings), FIRST_LISTS_S)
        except LaunchError:
            self.thread.close()
            raise
        except (Unanswered, TimeoutError) as error:
            self.thread.close()
            raise LaunchError(
                f"The cluster can't be seen: {error} The service needs its account and roles of the chart."
            ) from error

    @property
    def guard(self) -> Callable[[], None]:
        return self._guard

    @guard.setter
    def guard(self, guard: Callable[[], None]) -> None:
        self._guard = self.calls.guard = guard

    async def _open(self, namespaces: Sequence[str], settings: PodSettings) -> None:
        async with AsyncExitStack() as opened:
            self.api: ApiClient = await opened.enter_async_context(await connect())
            self._pods = Watcher([self._pods_of(name) for name in namespaces], timing=self._timing)
            self._observer = PodObserver(
                self._pods, stale_after_s=self._stale_after_s, seek=lambda pod: self._unlabelled.seek(pod)
            )
            self._unlabelled = UnlabelledPods(self.api, self._pods, seen=self._observer.note, gone=self._went)
            opened.push_async_callback(self._unlabelled.close)
            self._pods.listen(lambda _change: self._changed())
            self.calls = PodCalls(self.api, self._pods, settings)
            self._spaces = (
                None
                if namespaces
                else OwnNamespaces(
                    self.api, self._managed_by, came=self._watch, went=self._pods.drop, timing=self._timing
                )
            )
            if self._spaces is not None:
                await opened.enter_async_context(self._spaces)
                await _first_list(self._spaces.watcher)
            await opened.enter_async_context(self._pods)
            await self._hear_of_pods()
            self._opened = opened.pop_all()

    def _went(self, pod: Object) -> None:
        self._observer.went(pod)
        self._changed()

    async def _hear_of_pods(self) -> None:
        """Of one namespace that can't be listed nothing is decided; it keeps nobody else waiting, or from starting."""
        if not self._pods.namespaces():
            return  # nobody has started anything yet
        try:
            await _first_list(self._pods, PODS_LISTS_S)
        except TimeoutError as error:
            if self._spaces is None and not any(
                self._pods.fresh_within(FIRST_LISTS_S, each) for each in self._pods.namespaces()
            ):
                raise
            log.warning("what runs in some namespaces is not known yet: %s", error)

    def _pods_of(self, namespace: str) -> Resource:
        return Resource(self.api, "pods", namespace=namespace, labels=OURS)

    def _watch(self, namespace: str) -> None:
        if namespace not in self._pods.namespaces():
            self._pods.add(self._pods_of(namespace))

    def close(self) -> None:
        """Closed already: nothing."""
        if self.thread.loop.is_closed():
            return
        self.thread.wait(self._opened.aclose())
        self.thread.close()

    def prepare(
        self, namespace: str, made: Sequence[Object], own: Sequence[Object], kept: Sequence[Object], gone: Sequence[Object] = ()
    ) -> None:  # fmt: skip
        """Makes what is not there of `made`, in order, and of `own`, the owner's alone; brings `kept` to their present content, removes
        `gone`. It is watched from then on.

        Raises PodRefusedError, Unanswered, and OtherOwnerError when what is there of `own` is another's.
        """

        async def work() -> None:
            await _patiently(lambda: self.calls.make(made))
            self._watch(namespace)
            for each in own:
                await _patiently(partial(make_own, self.api, each))
            await _patiently(lambda: self.calls.keep(kept))
            for each in gone:
                await remove(self.api, each)

        self.thread.wait(work(), PREPARED_S)

    def observe(self, workload_id: str) -> list[Observation]:
        namespace = self._namespace_of(workload_id)

        async def look() -> list[Observation]:
            found = await self._look(workload_id, namespace)
            if found or namespace not in self._pods.namespaces():
                return found
            await self.calls.look(
                workload_id, str(namespace)
            )  # nothing is believed to be gone that nobody has looked for
            return await self._look(workload_id, namespace)

        return self.thread.wait(look())

    async def _look(self, workload_id: str, namespace: str | None) -> list[Observation]:
        if namespace is None:  # nobody knows it but the cluster, maybe
            return self._observer.seen(workload_id)
        if namespace in self._pods.namespaces():
            return self._observer.observe(workload_id, namespace)
        if self._spaces is None:
            raise StaleViewError(
                f"The namespace {namespace} is not watched: it is not in `rbac.namespaces` of the chart any more."
            )
        if not self._spaces.watcher.fresh_within(self._stale_after_s):
            raise StaleViewError(
                f"The cluster was not heard of for more than {self._stale_after_s:.0f} s. {self._spaces.trouble or ''}"
            )
        if await self._is_unlabelled(namespace, self._spaces):
            raise StaleViewError(f"What runs in the namespace {namespace} is not known yet.")
        return self._observer.seen(workload_id)  # there is no such namespace: what was in it is gone

    async def _is_unlabelled(self, namespace: str, spaces: OwnNamespaces) -> bool:
        """Whether it is there all the same, without our label or so new that it was not heard of; it is watched from now on."""
        try:
            there = await spaces.find(namespace)
        except Unanswered as error:
            raise StaleViewError(str(error)) from error
        if there is None:
            return False
        self._watch(namespace)
        spaces.seek(namespace)
        return True

    def observe_all(self) -> list[Observation]:
        async def look() -> list[Observation]:
            found = []
            for workload_id in self._observer.workloads():
                spaces = {pod["metadata"]["namespace"] for pod in self._observer.pods(workload_id)}
                if all(self._pods.fresh_within(self._stale_after_s, each) for each in spaces):
                    found += self._observer.seen(workload_id)
            return found

        return self.thread.wait(look())

    def stop(self, workload_id: str, *, grace_s: float = 10) -> None:
        """Raises Unanswered, PodRefusedError; then it is asked again."""
        known = self._namespace_of(workload_id)

        async def work() -> None:
            for namespace in {known} - {None} or self._seen_in(workload_id):
                known_there = self._seen_there(workload_id, namespace)
                await self.calls.stop(workload_id, str(namespace), known=known_there, grace_s=round(grace_s))

        self.thread.wait(work())

    def _seen_in(self, workload_id: str) -> set[str]:
        return {pod["metadata"]["namespace"] for pod in self._observer.pods(workload_id)}

    def _seen_there(self, workload_id: str, namespace: str | None) -> list[Object]:
        return [pod for pod in self._observer.pods(workload_id) if pod["metadata"]["namespace"] == namespace]

    def _is_there(self, namespace: str) -> bool:
        """False for a namespace that is gone for certain."""
        return (
            self._spaces is None
            or not self._spaces.watcher.fresh_within(self._stale_after_s)
            or namespace in self._pods.namespaces()
        )

    def forget(self, workload_id: str) -> None:
        """With the objects of pods that ended, and the workload's Secret."""
        known = self._namespace_of(workload_id)

        async def work() -> None:
            if not all(each.gone for each in self._observer.seen(workload_id)):
                return
            for namespace in ({known} - {None}) | self._seen_in(workload_id):
                if not self._is_there(str(namespace)):
                    continue  # and with it all that was in it
                await self.calls.clear(workload_id, str(namespace), known=self._seen_there(workload_id, namespace))
                await remove(self.api, {**SECRET, "metadata": {"namespace": namespace, "name": workload_id}})
            self._observer.forget(workload_id)

        self.thread.wait(work())

    def drop(self, workload_id: str) -> bool:
        """Forgets it without a word to the cluster, if all that is known of it is that its pods are gone."""

        async def work() -> bool:
            if self._observer.pods(workload_id):
                return False
            self._observer.forget(workload_id)
            return True

        return self.thread.wait(work())

    def with_secrets(self) -> set[str]:
        """The workloads of which there are Secrets, in the namespaces that can be looked into. Raises Unanswered."""

        async def look() -> set[str]:
            found: set[str] = set()
            for namespace in sorted(self._pods.namespaces()):
                if self._pods.fresh_within(self._stale_after_s, namespace):
                    secrets = await list_of(self.api, "Secret", namespace, OURS)
                    found |= {
                        whose.workload_id for each in secrets if (whose := Ownership.of(each["metadata"])) is not None
                    }
            return found

        return self.thread.wait(look())

    def log_tail(self, workload_id: str, role: str, longest: int) -> bytes:
        """Of the newest generation's pod, while its object is there."""

        async def read() -> bytes:
            pods = [
                pod
                for pod in self._observer.pods(workload_id)
                if (whose := Ownership.of(pod["metadata"])) and whose.role == role
            ]
            if not pods:
                return b""
            newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))["metadata"]
            return await read_log(
                self.api, newest["namespace"], newest["name"], lines=LOG_LINES, longest=longest, within_s=LOG_WITHIN_S
            )

        try:
            return self.thread.wait(read())
        except Unanswered as error:
            log.warning("the log of %s can't be read: %s", workload_id, error)
            return b""

    def heard_of(self) -> tuple[float, str | None]:
        """How long ago, in seconds, the cluster was last heard of as a whole, and why it can't be heard of just now.

        Infinite when it never was, or when we do not even get to look.
        """

        async def look() -> tuple[float, str | None]:
            ages = [self._pods.age()] if self._pods.namespaces() else []
            troubles = [self._pods.trouble, self._unlabelled.trouble]
            if self._spaces is not None:
                ages.append(self._spaces.watcher.age())
                troubles.append(self._spaces.trouble)
            return max(ages, default=0.0), next((each for each in troubles if each), None)

        try:
            return self.thread.wait(look(), HEARD_WITHIN_S)
        except Unanswered:
            return math.inf, "The service is too busy with it to say more."


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    """The server needs a moment to know of a new binding: what it does not permit before is asked again."""
    patience = time.monotonic() + RIGHTS_S
    while True:
        try:
            await work()
            return
        except PodRefusedError as error:
            if error.code != NOT_PERMITTED or time.monotonic() > patience:
                raise
        await asyncio.sleep(RIGHTS_PAUSE_S)


async def _first_list(watcher: Watcher, within_s: float = FIRST_LISTS_S / 2) -> None:
    """Raises TimeoutError with why there is none yet."""
    try:
        async with asyncio.timeout(within_s):
            await watcher.until(lambda: watcher.fresh_within(FIRST_LISTS_S) or None)
    except TimeoutError:
        raise TimeoutError(watcher.trouble or "it does not answer.") from None
