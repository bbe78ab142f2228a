"""The namespaces of one installation, as they come and go.

They are known by their label, and a label is lost sooner than a namespace: one that has lost it is looked for by its name, until that
is gone, for what runs in it runs on.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType

from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.api_objects import Resource, Unanswered, send
from moorage_spawners.launch.labels import INSTALLATION
from moorage_spawners.launch.names import label_value
from moorage_spawners.launch.object_calls import WITHIN_S
from moorage_spawners.launch.timing import Timing
from moorage_spawners.launch.types import Object
from moorage_spawners.launch.watch import Change, Watcher

LOOK_S = 10.0  # between two looks for one that has lost its label
log = logging.getLogger(__name__)


class OwnNamespaces:
    """Kept up to date while entered. `came` and `went` are called with a name, in the loop; `went` only of what is gone for certain."""

    def __init__(
        self, api: ApiClient, managed_by: str, *, came: Callable[[str], None], went: Callable[[str], None],
        look_s: float = LOOK_S, timing: Timing | None = None,
    ) -> None:  # fmt: skip
        self._api = api
        self._label = (INSTALLATION, label_value(managed_by))
        self._came = came
        self._went = went
        self._look_s = look_s
        self.watcher = Watcher([Resource(api, "namespaces", labels="=".join(self._label))], timing=timing)
        self.watcher.listen(self._take)
        self._sought: dict[str, asyncio.Task[None]] = {}
        self._unlabelled: set[str] = set()
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> "OwnNamespaces":
        await self._opened.enter_async_context(self.watcher)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()
        for task in self._sought.values():
            task.cancel()
        await asyncio.gather(*self._sought.values(), return_exceptions=True)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the picture, or with one of them, as a sentence."""
        if self.watcher.trouble or not self._unlabelled:
            return self.watcher.trouble
        name, (label, value) = min(self._unlabelled), self._label
        return (
            f"The namespace {name} has lost its label, without which what runs in it reaches neither hub nor service: "
            f"`kubectl label namespace {name} {label}={value} --overwrite`."
        )

    async def find(self, name: str) -> Object | None:
        """As it is now, whatever its labels; None when there is none. Raises Unanswered."""
        status, found = await send(self._api, "GET", f"/api/v1/namespaces/{name}", None, within_s=WITHIN_S)
        if status == 404:
            return None
        if status != 200 or "metadata" not in found:
            raise Unanswered(f"The API server answered {status} to the question for the namespace {name}.")
        return found

    def seek(self, name: str, uid: str = "") -> None:
        """It is not among those with the label: it is looked for until it is, or is gone. `uid`: another of its name is not it."""
        if name not in self._sought:
            self._sought[name] = task = asyncio.create_task(self._seek(name, uid))
            task.add_done_callback(lambda _done: self._found(name))

    def _found(self, name: str) -> None:
        del self._sought[name]
        self._unlabelled.discard(name)

    def _take(self, change: Change) -> None:
        metadata = change.object["metadata"]
        if change.kind == "seen":
            self._came(metadata["name"])
        else:
            self.seek(metadata["name"], metadata.get("uid", ""))

    async def _seek(self, name: str, uid: str) -> None:
        while self.watcher.get("", name) is None:
            try:
                there = await self.find(name)
            except Unanswered as error:
                log.warning("whether there is a namespace %s is not known: %s", name, error)
            else:
                if there is None or uid not in ("", there["metadata"].get("uid")):
                    self._went(name)
                    return
                self._note(name, there)
            await asyncio.sleep(self._look_s)

    def _note(self, name: str, there: Object) -> None:
        label, value = self._label
        if (there["metadata"].get("labels") or {}).get(label) != value and name not in self._unlabelled:
            self._unlabelled.add(name)
            log.warning("%s", self.trouble)
