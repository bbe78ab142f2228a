"""Starting and ending pods. Every call may be repeated: the name of a pod says its generation, so nothing is started twice."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.api_objects import Expired, Resource, Unanswered, send
from moorage_spawners.launch.errors import OtherGenerationError
from moorage_spawners.launch.labels import WORKLOAD, Ownership
from moorage_spawners.launch.names import label_value
from moorage_spawners.launch.object_calls import WITHIN_S, keep, make, path_of, raise_refused, remove
from moorage_spawners.launch.observed import now_utc, observe
from moorage_spawners.launch.pod_parts import PodSettings
from moorage_spawners.launch.pods import PodSpec, manifest, secret_manifest
from moorage_spawners.launch.types import Object
from moorage_spawners.launch.watch import Watcher

POD = {"apiVersion": "v1", "kind": "Pod"}  # which the server leaves out in lists
QUOTA_TRIES = 8  # many pods at once bring the counting of a quota into conflict with itself
QUOTA_PAUSE_S = 0.1


def _anyone() -> None:
    """Who has no guard acts for itself."""


class PodCalls:
    """Acts on pods, and takes what it did into the watcher's picture at once."""

    def __init__(self, api: ApiClient, watcher: Watcher, settings: PodSettings) -> None:
        self._api = api
        self._watcher = watcher
        self._settings = settings
        # Called at the last moment before anything is started or ended; raises when that is not this process's to do any more.
        self.guard: Callable[[], None] = _anyone

    async def start(self, spec: PodSpec, secrets: Mapping[str, str] | None = None) -> Object:
        """The pod, made now or by an earlier call for this generation; nothing is said yet of whether it runs.

        `secrets`: the values of the keys that `spec.secret_env` refers to; they go into a Secret that goes with the pod.
        Raises ManifestError; OtherGenerationError when another generation is in the way; PodRefusedError with the reason;
        Unanswered when nobody knows whether it was made: call again.
        """
        body = manifest(spec, self._settings)
        secret = None if secrets is None else secret_manifest(spec, secrets)
        pods = await self._pods(spec.ownership.workload_id, spec.namespace)
        pod = next((each for each in pods if each["metadata"]["name"] == spec.name), None)
        if pod is None:
            for other in pods:
                _refuse_beside(other, spec)
            self.guard()
            if secret is not None:
                await self.keep([secret])
            pod = await self._make_pod(spec, body)
        self._note(pod, spec)
        if secret is not None:
            await self._bind(secret, pod)
        return pod

    def _note(self, pod: Object, spec: PodSpec) -> None:
        whose, own = Ownership.of(pod["metadata"]), spec.ownership
        if whose is None or (whose.workload_id, whose.generation) != (own.workload_id, own.generation):
            raise OtherGenerationError(f"There is a pod {spec.name} that is not ours; an admin is to remove it.")
        self._watcher.note(pod)

    async def _make_pod(self, spec: PodSpec, body: Object) -> Object:
        """The answer to its making, or the pod of its name that is there."""
        path = f"/api/v1/namespaces/{spec.namespace}/pods"
        for attempt in range(QUOTA_TRIES):
            self.guard()
            status, answer = await send(self._api, "POST", path, body, within_s=WITHIN_S)
            if not (status == 409 and answer.get("reason") == "Conflict"):
                break
            await asyncio.sleep(QUOTA_PAUSE_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311
        if status == 409 and answer.get("reason") == "AlreadyExists":
            status, answer = await send(self._api, "GET", f"{path}/{spec.name}", None, within_s=WITHIN_S)
            if status == 404:
                raise Unanswered(f"Pod {spec.name} was there and is gone; asking again.")
        if status not in (200, 201):
            raise_refused(status, answer)
        return answer

    async def keep(self, objects: Sequence[Object]) -> None:
        """Makes each, or gives one that is there its present content. Raises PodRefusedError, Unanswered."""
        for each in objects:
            await keep(self._api, each)

    async def _bind(self, secret: Object, pod: Object) -> None:
        """The Secret goes when the pod goes. Done again for a pod that is there: the call that made it may have been cut off before."""
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        bound = {"metadata": {"ownerReferences": [owner]}}
        status, answer = await send(self._api, "PATCH", path_of(secret), bound, within_s=WITHIN_S)
        if status not in (200, 404):
            raise_refused(status, answer)

    async def stop(
        self, workload_id: str, namespace: str, *, generation: int | None = None, known: Sequence[Object] = (), grace_s: int = 10
    ) -> None:  # fmt: skip
        """Asks for the end of a workload's pods (of one generation, or all); the watcher tells when they are gone.

        `known`: those that are to end whatever their labels say by now. What is gone already is no error. A later call with a
        shorter grace wins. Raises Unanswered, PodRefusedError.
        """
        ends = {pod["metadata"]["uid"]: pod for pod in known}
        for pod in await self._pods(workload_id, namespace):
            whose = Ownership.of(pod["metadata"])
            if whose is not None and generation in (None, whose.generation):
                ends[pod["metadata"]["uid"]] = pod
        for pod in ends.values():
            self.guard()
            # Of this very pod: its name may have become another's in between.
            options = {"gracePeriodSeconds": max(1, grace_s), "preconditions": {"uid": pod["metadata"]["uid"]}}
            path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
            status, answer = await send(self._api, "DELETE", path, options, within_s=WITHIN_S)
            if status not in (200, 202, 404, 409):
                raise_refused(status, answer)

    async def clear(self, workload_id: str, namespace: str, known: Sequence[Object] = ()) -> None:
        """Removes the objects of a workload's pods that have ended, `known` as for `stop`; what runs stays. Raises Unanswered,
        PodRefusedError.
        """
        pods = {pod["metadata"]["uid"]: pod for pod in (*await self._pods(workload_id, namespace), *known)}
        for pod in pods.values():
            seen = observe(pod, now_utc())
            if seen is not None and seen.gone:
                self.guard()
                await remove(self._api, {**POD, **pod}, grace_s=1)

    async def look(self, workload_id: str, namespace: str) -> None:
        """Takes what the server itself shows of a workload's pods into the picture. Raises Unanswered."""
        for pod in await self._pods(workload_id, namespace):
            self._watcher.note(pod)

    async def make(self, objects: Sequence[Object]) -> None:
        """Makes what a namespace holds, in order; what is there already stays as it is. Raises PodRefusedError, Unanswered."""
        for each in objects:
            await make(self._api, each)

    async def _pods(self, workload_id: str, namespace: str) -> tuple[Object, ...]:
        """As they are now: the server's own answer, not the watcher's picture."""
        resource = Resource(self._api, "pods", namespace=namespace, labels=f"{WORKLOAD}={label_value(workload_id)}")
        try:
            return (await resource.read_all(page_within_s=WITHIN_S)).objects
        except Expired as error:
            raise Unanswered("The API server forgot a list while it was read.") from error


def _refuse_beside(other: Object, spec: PodSpec) -> None:
    whose, own = Ownership.of(other["metadata"]), spec.ownership
    if whose is None or whose.role != own.role or whose.generation == own.generation:
        return
    if whose.generation > own.generation:
        raise OtherGenerationError(
            f"Generation {own.generation} of {own.workload_id}/{own.role} is outdated: {whose.generation} was started."
        )
    if (other.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
        raise OtherGenerationError(
            f"Generation {whose.generation} of {own.workload_id}/{own.role} still runs; "
            f"stop it before {own.generation} starts."
        )
