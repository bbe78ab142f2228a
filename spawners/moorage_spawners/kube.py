"""Notebooks as pods: one server per user and project, in the place that the service made for it.

What a start waits for is heard, not asked for: the pod and its events are followed, and what is in the way is told in words. A hub
that was restarted finds its pods by their names, which it wrote down before it made them.
"""

import asyncio
import contextlib
import itertools
import math
from dataclasses import replace
from typing import Any

from kubernetes_asyncio.client import ApiClient
from traitlets import Float, Instance, Unicode

from moorage.wire import NotebookAdmission, Size
from moorage_spawners import notebook_pod
from moorage_spawners.launch.api_client import connect
from moorage_spawners.launch.api_objects import Expired, Resource, Unanswered, send
from moorage_spawners.launch.crash_points import reach
from moorage_spawners.launch.errors import LaunchError, PodRefusedError
from moorage_spawners.launch.labels import WORKLOAD, names
from moorage_spawners.launch.names import label_value
from moorage_spawners.launch.object_calls import WITHIN_S
from moorage_spawners.launch.observed import now_utc, observe
from moorage_spawners.launch.pauses import pause_s
from moorage_spawners.launch.pod_calls import PodCalls
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pod_view import PodView, Standing, address_of
from moorage_spawners.launch.pods import PodSpec
from moorage_spawners.launch.timing import Timing
from moorage_spawners.launch.types import Object
from moorage_spawners.notebook_pod import Installation, RunningPod
from moorage_spawners.placement import Placement
from moorage_spawners.project import KIND, NEVER_STARTED, TAKE_OVER_S, ProjectSpawner
from moorage_spawners.readiness import NotReady, wait_until_ready
from moorage_spawners.server import Addresses

UID, GID = 1000, 100
# What is in the way of the image does not pass by itself, when the registry has said so again after a while.
HOPELESS = frozenset({"image.missing", "image.denied", "image.invalid", "image.untrusted"})
PULLING = "image.pulling"


class NoRightError(Unanswered):
    """The hub has no rights in the namespace, as when it was removed."""


class ProjectKubeSpawner(ProjectSpawner, Placement):
    """Makes the pod of what was admitted, and acts in the namespaces of notebooks only."""

    pods = Instance(
        PodSettings, args=(), help="The installation's rules for users' pods; `c.KubeSpawner` adds to them."
    ).tag(config=True)
    home = Unicode("/home/jovyan", help="Where a pod has its user's home.").tag(config=True)
    retry_s = Float(1.0, help="At most, between the first and the second try to make a pod, in seconds.").tag(
        config=True
    )
    longest_retry_s = Float(10.0, help="Between later tries, which come less and less often, in seconds.").tag(
        config=True
    )
    timing = Instance(Timing, args=(), help="How long the cluster may say nothing of a pod that is waited for.").tag(
        config=True
    )
    hopeless_s = Float(15.0, help="How long an image that can't be had is waited for, in seconds.").tag(config=True)
    quota_s = Float(15.0, help="How long a full quota is asked again for what has just ended, in seconds.").tag(
        config=True
    )
    end_within_s = Float(60.0, help="How long the end of a pod is waited for beyond its grace, in seconds.").tag(
        config=True
    )
    api = Instance(ApiClient, allow_none=True, help="The cluster's API; the one that all share if none is given.")

    FAILURES = (*ProjectSpawner.FAILURES, Unanswered)
    _shared: ApiClient | None = None

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._namespace = self._pod_name = self._pod_address = ""

    async def _client(self) -> ApiClient:
        if self.api is None:
            if ProjectKubeSpawner._shared is None:
                ProjectKubeSpawner._shared = await connect()
            self.api = ProjectKubeSpawner._shared
        return self.api

    # Starting

    async def _start_admitted(self, admission: NotebookAdmission, size: Size) -> str:
        spec = notebook_pod.spec(
            admission, size, user=self.user.name, hub=self.get_env(), base_url=self.server.base_url, here=self._installation()
        )  # fmt: skip
        self._step(20, "Admitted. Making its pod")
        self._remember_at(admission, spec.namespace, spec.name)
        reach("pod.remembered")
        api = await self._client()
        async with self._view(api) as view:
            await self._make(PodCalls(api, view.pods, self._pod_settings()), spec)
            reach("pod.started")
            ready = await self._until_ready(view)
        reach("pod.answers")
        self._reachable_at(ready.address)
        return self._address

    def _installation(self) -> Installation:
        return Installation(
            addresses=Addresses(self.service_url, self.address), home=self.home, uid=self.number("uid", UID),
            gid=self.number("fs_gid", GID), port=self.port, start_within_s=math.ceil(self.start_timeout),
            grace_s=math.ceil(self.stop_grace_s), session_check_s=self.session_check_s,
        )  # fmt: skip

    def _pod_settings(self) -> PodSettings:
        ours, theirs = self.pods, self.scheduling
        priority = {KIND: theirs["priority_class"]} if theirs["priority_class"] else ours.priority_classes
        return replace(
            ours, node_labels={**ours.node_labels, **theirs["node_labels"]}, tolerations=(*ours.tolerations, *theirs["tolerations"]),
            image_pull_secrets=(*ours.image_pull_secrets, *theirs["image_pull_secrets"]), priority_classes=priority,
        )  # fmt: skip

    async def _make(self, calls: PodCalls, spec: PodSpec) -> None:
        """Asked again as long as there is time, when nobody knows whether it was made, or it may be taken later."""
        clock = asyncio.get_running_loop().time
        full_until: float | None = None
        for failures in itertools.count(1):
            try:
                await calls.start(spec)
                return
            except (Unanswered, PodRefusedError) as error:
                left = self._late - clock()
                if isinstance(error, PodRefusedError) and error.code == "pod.quota":
                    # What has ended, as when somebody starts it again at once, is taken off the count a little later.
                    full_until = clock() + self.quota_s if full_until is None else full_until
                    left = min(left, full_until - clock())
                elif isinstance(error, PodRefusedError) and not error.waits:
                    raise
                if left < self.retry_s:
                    raise
                self._step(30, str(error))
            await asyncio.sleep(min(left, pause_s(failures, first_s=self.retry_s, longest_s=self.longest_retry_s)))

    async def _until_ready(self, view: PodView) -> Standing:
        """Tells each step, here and to the service. Raises NotReady with what was in the way last."""
        clock = asyncio.get_running_loop().time
        now: Standing | None = None
        hopeless_at = math.inf
        stages: set[str] = set()  # those that are nobody's hindrance: each is told once
        while True:
            try:
                async with asyncio.timeout_at(min(self._late, hopeless_at)):
                    now = await view.news(now)
            except TimeoutError:
                raise NotReady(self._too_late(view, now, hopeless=clock() < self._late)) from None
            if now.state == "ready":
                return now
            if now.state == "ended":
                raise NotReady(f"The notebook server ended while it started. {now.said}")
            if now.code not in HOPELESS and now.code != PULLING:
                hopeless_at = math.inf
            elif now.code in HOPELESS and hopeless_at == math.inf:
                hopeless_at = clock() + self.hopeless_s
            if now.code is not None or now.said not in stages:
                self._step(50, now.said)
                await self._observed("starting", now.said)
            if now.code is None:
                stages.add(now.said)

    def _too_late(self, view: PodView, last: Standing | None, *, hopeless: bool) -> str:
        said = (last.said if last is not None else None) or view.trouble or "Nothing was heard of its pod."
        if hopeless:
            return f"The notebook server can't start. {said}"
        return f"The notebook server did not start within {self.start_timeout:.0f} s. {said}"

    def _remember_at(self, admission: NotebookAdmission, namespace: str, pod: str, address: str = "") -> None:
        self._namespace, self._pod_name, self._pod_address = namespace, pod, address
        self._remember(admission)

    def _reachable_at(self, address: str | None) -> None:
        if address and address != self._pod_address:
            self._pod_address = address
            self._keep_state()

    async def _take_over(self, admission: NotebookAdmission) -> str:
        place = notebook_pod.place_of(admission)
        labels = f"{WORKLOAD}={label_value(admission.workload_id)}"
        try:
            found = await Resource(await self._client(), "pods", namespace=place.namespace, labels=labels).read_all(
                page_within_s=WITHIN_S
            )
        except Expired as error:  # nothing is known: it must not be ended for that
            raise Unanswered("The cluster did not say what runs. Start it again.") from error
        running = RunningPod.among(found.objects, admission)
        self._remember_at(admission, place.namespace, running.name, running.address)
        seen = next(observe(each, now_utc()) for each in found.objects if each["metadata"]["name"] == running.name)
        await wait_until_ready(f"{self._address}{self.server.base_url}api", lambda: seen, within=TAKE_OVER_S)
        self.api_token = running.hub_token  # by which the hub knows it; the new one is dropped
        return self._address

    # Looking, and ending

    @property
    def _address(self) -> str:
        host = f"[{self._pod_address}]" if ":" in self._pod_address else self._pod_address
        return f"http://{host}:{self.port}"

    async def get_url(self) -> str:
        """Asked by a hub that was restarted, which may not have heard where the server listens."""
        return f"{self._address}{self.server.base_url}" if self._pod_address else str(self.server.url)

    async def poll(self) -> int | None:
        """None while its pod is not gone for certain: what can't be asked is not dead."""
        if not self._pod_name:
            await self._forget_a_cut_start()
            return 0
        try:
            if self._check_pending and not self._pod_address:
                await self._found_again()
            pod = await self._pod()
        except (Unanswered, LaunchError) as error:
            self.log.warning("%s is taken for running: %s", self._pod_name, error)
            return None
        if pod is None:
            if self._check_pending and not self._pod_address:
                await self._observed("failed", NEVER_STARTED)
            return 0
        seen = observe(pod, now_utc())
        if seen is not None and seen.gone:
            return seen.exit_code if seen.exit_code is not None else 128 + (seen.signal or 0)
        self._reachable_at(address_of(pod))
        await self._tell_ready()  # once more after a restart of the hub, which may have come in between
        return None

    async def _found_again(self) -> None:
        """At the hub's start. It ends what does not answer soon, so a start that is under way is waited for as a new one is."""
        loop = asyncio.get_running_loop()
        now: Standing | None = None
        async with self._view(await self._client()) as view:
            try:
                async with asyncio.timeout_at(loop.time() + self.start_timeout):
                    while now is None or now.state == "waiting":
                        now = await view.news(now)
            except TimeoutError:
                return
        self._reachable_at(now.address)

    async def stop(self, now: bool = False) -> None:
        """Returns when nothing of the pod runs. What ended by itself is not called stopped. Raises Unanswered, and ended nothing then."""
        try:
            pod = await self._pod() if self._pod_name else None
        except (
            NoRightError
        ):  # its namespace is gone, or not ours any more: the service, which sees that, ends what is left
            await self._observed("gone", "Stopped.")
            return
        except Unanswered:
            await self._observed("gone", "Stopped.")  # the service ends it when it can
            raise
        seen = None if pod is None else observe(pod, now_utc())
        if pod is None or (seen is not None and seen.gone):
            return
        await self._observed("gone", "Stopped.")
        api, grace_s = await self._client(), 1 if now else math.ceil(self.stop_grace_s)
        standing: Standing | None = None
        async with self._view(api) as view:
            calls = PodCalls(api, view.pods, self._pod_settings())
            ours = [pod] if names(pod["metadata"], self._workload_id) else []  # though a label was changed
            await calls.stop(
                self._workload_id, self._namespace, generation=self._generation, known=ours, grace_s=grace_s
            )
            with contextlib.suppress(
                TimeoutError
            ):  # its machine is silent: the service goes on waiting, and holds what it holds
                async with asyncio.timeout(grace_s + self.end_within_s):
                    while standing is None or standing.state != "ended":
                        standing = await view.news(standing)

    def _view(self, api: ApiClient) -> PodView:
        return PodView(api, self._namespace, self._pod_name, timing=self.timing)

    async def _pod(self) -> Object | None:
        """As it is now; None when it is not there. Raises Unanswered."""
        path = f"/api/v1/namespaces/{self._namespace}/pods/{self._pod_name}"
        status, found = await send(await self._client(), "GET", path, None, within_s=WITHIN_S)
        if status == 404:
            return None
        if status == 403:
            raise NoRightError(f"The cluster does not let the hub look at {path}.")
        if status != 200:
            raise Unanswered(f"The API server answered {path} with {status}: {found.get('message')!s:.200}")
        return found

    def _log_hint(self) -> str:
        return f"Its log: kubectl --namespace {self._namespace} logs {self._pod_name}" if self._pod_name else ""

    def get_state(self) -> dict[str, Any]:
        own = {"namespace": self._namespace, "pod_name": self._pod_name, "pod_address": self._pod_address}
        return {**super().get_state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._namespace, self._pod_name = state.get("namespace", ""), state.get("pod_name", "")
        self._pod_address = state.get("pod_address", "")

    def clear_state(self) -> None:
        super().clear_state()
        self._namespace = self._pod_name = self._pod_address = ""
