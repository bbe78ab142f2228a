"""Pods that are not among those with our labels any more, and were not seen to end.

To who watches by labels, a pod that loses one is as one that is removed; but it runs on. So it is looked for by its name.
"""

import asyncio
import logging
from collections.abc import Callable

from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.api_objects import Unanswered, send
from moorage_spawners.launch.object_calls import WITHIN_S
from moorage_spawners.launch.types import Object
from moorage_spawners.launch.watch import Watcher

LOOK_S = 10.0  # between two looks for one that is there
AT_ONCE = 10  # of the looks, when much was not heard of for long
log = logging.getLogger(__name__)


class UnlabelledPods:
    """`seen` is called with each that is there, at each look, `gone` with what is gone for certain: in the loop. `close` it."""

    def __init__(
        self, api: ApiClient, watcher: Watcher, *, seen: Callable[[Object], None], gone: Callable[[Object], None], look_s: float = LOOK_S
    ) -> None:  # fmt: skip
        self._api = api
        self._watcher = watcher
        self._seen = seen
        self._gone = gone
        self._look_s = look_s
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._sought: dict[str, asyncio.Task[None]] = {}  # by uid
        self._there: dict[str, str] = {}  # uid -> namespace/name

    @property
    def trouble(self) -> str | None:
        """What is wrong with one of them, as a sentence."""
        if not self._there:
            return None
        return (
            f"The pod {min(self._there.values())} has lost labels of ours. It is taken to run until it is gone, but a service that starts "
            "anew does not find it: put back its `app.kubernetes.io/managed-by` and `moorage.dev/workload`, or end it."
        )

    def seek(self, pod: Object) -> None:
        """`pod` as it was seen last. It is looked for until it is gone, or is among those with the labels again."""
        uid = pod["metadata"]["uid"]
        if uid not in self._sought:
            self._sought[uid] = task = asyncio.create_task(self._seek(pod))
            task.add_done_callback(lambda _done: self._found(uid))

    async def close(self) -> None:
        tasks = list(self._sought.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _found(self, uid: str) -> None:
        self._sought.pop(uid, None)
        self._there.pop(uid, None)

    async def _seek(self, pod: Object) -> None:
        namespace, name, uid = (pod["metadata"][key] for key in ("namespace", "name", "uid"))
        while True:
            try:
                async with self._turn:
                    there = await self._find(namespace, name, uid)
            except Unanswered as error:
                log.warning("whether the pod %s/%s is gone is not known: %s", namespace, name, error)
            else:
                if there is None:
                    self._gone(pod)
                    return
                watched = self._watcher.get(namespace, name)
                if watched is not None and watched["metadata"].get("uid") == uid:
                    return
                if uid not in self._there:
                    self._there[uid] = f"{namespace}/{name}"
                    log.warning("%s", self.trouble)
                self._seen(there)
            await asyncio.sleep(self._look_s)

    async def _find(self, namespace: str, name: str, uid: str) -> Object | None:
        """As it is now, whatever its labels; None when it is gone, or when its namespace is not ours any more. Raises Unanswered."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        status, found = await send(self._api, "GET", path, None, within_s=WITHIN_S)
        if status in (403, 404):
            return None
        if status != 200 or "metadata" not in found:
            raise Unanswered(f"The API server answered {path} with {status}.")
        return found if found["metadata"].get("uid") == uid else None
