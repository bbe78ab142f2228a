"""The API server of a cluster, over real HTTP: lists in pages, streams with bookmarks, versions, and everything that goes wrong with them.

It keeps pods (and events) as a cluster would, and a history from which a stream goes on. Faults are switched on by its fields and methods.
"""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

Object = dict[str, Any]


@dataclass(eq=False)
class _Stream:
    request: web.Request
    lines: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)

    def offer(self, event: Object) -> None:
        if _chosen(event["object"], self.request):
            self.lines.put_nowait(json.dumps(event).encode() + b"\n")


@dataclass
class FakeKubernetes:
    """`failing`: the status every request gets. `silent`: connections stay open, and nothing comes (a half-open network).

    `pages`: objects in one answer at most. `piecewise`: streams come in pieces of so many bytes. `ending`: a stream ends at once.
    What is made or ended through the API is the cluster's at once; kubelets there are none, so an end is asked for in `ended`.
    """

    kind: str = "pods"
    failing: int | None = None
    retry_after: int | None = None
    silent: bool = False
    pages: int = 500
    piecewise: int = 0
    ending: bool = False
    # Status, reason, message of the next that is made.
    refusals: list[tuple[int, str, str]] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)  # namespaces that nobody may look into
    forbidden: str = ""  # why anything but a pod may not be made
    events: "FakeKubernetes | None" = None  # of the same cluster
    lost_answers: int = 0  # so many are made, and their answers never come
    kubelet: Callable[[Object], Awaitable[None]] | None = None  # gets every pod that is made
    logs: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # of a pod's container
    port: int = 0
    version: int = 100
    ended: list[tuple[str, Object]] = field(default_factory=list)  # name, options
    made: dict[str, Object] = field(default_factory=dict)  # all other objects, by path
    requests: list[str] = field(default_factory=list)  # "list" or "watch <version>"
    paths: list[str] = field(default_factory=list)  # of lists and streams, and of all that is no pod
    answers: list[dict[str, Any]] = field(default_factory=list)  # lists to be answered instead of the true ones
    _objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    _history: list[tuple[int, Object]] = field(default_factory=list)
    _snapshots: list[tuple[int, list[Object]]] = field(default_factory=list)
    _forgotten: int = 0  # streams from before this version get 410
    _streams: list[_Stream] = field(default_factory=list)
    _space_streams: list[_Stream] = field(default_factory=list)
    _runner: web.AppRunner | None = None
    _kubelets: "set[asyncio.Task[None]]" = field(default_factory=set)

    # What happens in the cluster

    def put(self, name: str, namespace: str = "moorage-ada", *, uid: str | None = None, **parts: Any) -> Object:
        """Makes or changes an object; `parts` are its top-level fields. Returns it as the server answers it."""
        key = namespace, name
        before = self._objects.get(key)
        self.version += 1
        own = uid or (before["metadata"]["uid"] if before else f"uid-{self.version}")
        metadata: dict[str, Any] = {"labels": {"app.kubernetes.io/managed-by": "moorage", "moorage.dev/workload": name}}
        metadata.update(parts.pop("metadata", {}))
        metadata.update(namespace=namespace, name=name, uid=own, resourceVersion=str(self.version))
        made = {**(before or {}), **parts, "metadata": metadata}
        self._objects[key] = made
        self._happened("ADDED" if before is None else "MODIFIED", made)
        return copy.deepcopy(made)

    def remove(self, name: str, namespace: str = "moorage-ada") -> None:
        self.version += 1
        last = copy.deepcopy(self._objects.pop((namespace, name)))
        last["metadata"]["resourceVersion"] = str(self.version)
        self._happened("DELETED", last)

    def _happened(self, kind: str, what: Object) -> None:
        event = {"type": kind, "object": copy.deepcopy(what)}
        self._history.append((self.version, event))
        if not self.silent:
            self.say(event)

    def objects(self) -> list[Object]:
        return list(self._objects.values())

    def history(self) -> list[Object]:
        """Every event there was, oldest first."""
        return [event for _, event in self._history]

    # What goes wrong with it

    def say(self, event: Object) -> None:
        """Sends a line on every stream, whatever it says."""
        for stream in self._streams:
            stream.offer(event)

    def bookmark(self) -> None:
        self.version += 1
        line = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}}).encode()
        for stream in self._streams:
            stream.lines.put_nowait(line + b"\n")

    def expire(self) -> None:
        """Says 410 on every stream, and to those that want to go on from before now."""
        self.version += 1
        self._forgotten = self.version
        gone = {
            "kind": "Status",
            "status": "Failure",
            "reason": "Expired",
            "code": 410,
            "message": "too old resource version",
        }
        for stream in self._streams:
            stream.lines.put_nowait(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")

    def end_streams(self) -> None:
        for stream in self._streams:
            stream.lines.put_nowait(None)

    def reset(self) -> None:
        """Every connection is cut, as by a network that drops it."""
        for stream in self._streams:
            if stream.request.transport is not None:
                stream.request.transport.abort()

    @property
    def streams(self) -> int:
        return len(self._streams)

    async def leave(self) -> None:
        """Nobody listens any more; what happens meanwhile is for `come_back` to show."""
        if self._runner is not None:
            self.reset()
            await self._runner.cleanup()
            self._runner = None

    async def come_back(self) -> None:
        app = web.Application()
        app.router.add_get(f"/api/v1/{self.kind}", self._answer)
        app.router.add_get(f"/api/v1/namespaces/{{namespace}}/{self.kind}", self._answer)
        if self.events is not None:
            app.router.add_get(f"/api/v1/namespaces/{{namespace}}/{self.events.kind}", self.events._answer)
        app.router.add_post(f"/api/v1/namespaces/{{namespace}}/{self.kind}", self._make)
        app.router.add_get(f"/api/v1/namespaces/{{namespace}}/{self.kind}/{{name}}", self._one)
        app.router.add_delete(f"/api/v1/namespaces/{{namespace}}/{self.kind}/{{name}}", self._end)
        app.router.add_get("/api/v1/namespaces", self._namespaces)
        app.router.add_get(f"/api/v1/namespaces/{{namespace}}/{self.kind}/{{name}}/log", self._log)
        app.router.add_post("/{path:.*}", self._make_other)
        app.router.add_get("/{path:.*}", self._read_others)
        app.router.add_delete("/{path:.*}", self._remove_other)
        app.router.add_put("/{path:.*}", self._change_other)
        app.router.add_patch("/{path:.*}", self._change_other)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    # Its answers

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        watching = "watch" in request.query
        self.paths.append(request.path)
        self.requests.append(f"watch {request.query['resourceVersion']}" if watching else "list")
        if self.silent:
            await asyncio.sleep(3600)
        if request.match_info.get("namespace") in self.closed:
            return _refusal(403, "Forbidden", "pods is forbidden")
        if self.failing is not None:
            headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
            return web.json_response({"kind": "Status", "message": "no"}, status=self.failing, headers=headers)
        return await self._stream(request) if watching else self._list(request)

    def _list(self, request: web.Request) -> web.Response:
        if self.answers:
            return web.json_response(self.answers.pop(0))
        token = request.query.get("continue")
        if token is None:  # all pages show what there was at the first
            found = [each for _, each in sorted(self._objects.items()) if _chosen(each, request)]
            token = f"{len(self._snapshots)}:0"
            self._snapshots.append((self.version, copy.deepcopy(found)))
        number, begin = map(int, token.split(":"))
        version, found = self._snapshots[number]
        end = begin + min(self.pages, int(request.query["limit"]))
        metadata = {"resourceVersion": str(version)} | ({"continue": f"{number}:{end}"} if end < len(found) else {})
        return web.json_response({"kind": "List", "metadata": metadata, "items": found[begin:end]})

    async def _make(self, request: web.Request) -> web.StreamResponse:
        body, namespace = await request.json(), request.match_info["namespace"]
        if self.refusals:
            return _refusal(*self.refusals.pop(0))
        name = body["metadata"]["name"]
        if (namespace, name) in self._objects:
            return _refusal(409, "AlreadyExists", f'{self.kind} "{name}" already exists')
        made = self.put(name, namespace, spec=body["spec"], metadata=body["metadata"], status={"phase": "Pending"})
        if self.lost_answers:
            self.lost_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        if self.kubelet is not None:
            task = asyncio.ensure_future(self.kubelet(made))
            self._kubelets.add(task)
            task.add_done_callback(self._kubelets.discard)
        return web.json_response(made, status=201)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        """All there is by now; it ends, as a stream does that was cut."""
        lines = self.logs.get((request.match_info["name"], request.query["container"]), [])
        return web.Response(text="".join(f"{line}\n" for line in lines))

    async def _read_others(self, request: web.Request) -> web.StreamResponse:
        """One object, or all of a kind."""
        self.paths.append(request.path)
        if self.failing is not None:
            return _refusal(self.failing, "InternalError", "no")
        if request.path in self.made:
            return web.json_response(self.made[request.path])
        parts = request.path.rpartition("/namespaces/")[2].split("/")
        if parts[0] and len(parts) in (1, 3):
            return _refusal(404, "NotFound", "not found")
        found = [each for path, each in self.made.items() if path.rpartition("/")[0] == request.path]
        chosen = [each for each in found if _chosen(each, request)]
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": chosen})

    async def _remove_other(self, request: web.Request) -> web.StreamResponse:
        if self.made.pop(request.path, None) is None:
            return _refusal(404, "NotFound", "not found")
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _make_other(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.forbidden:
            return _refusal(403, "Forbidden", self.forbidden)
        path = f"{request.path}/{body['metadata']['name']}"
        if path in self.made:
            return _refusal(409, "AlreadyExists", f"{path} already exists")
        self.made[path] = body
        if body["kind"] == "Namespace":
            self._space_comes(body)
        return web.json_response(body, status=201)

    async def _change_other(self, request: web.Request) -> web.StreamResponse:
        """PUT replaces, PATCH adds to the metadata."""
        body, before = await request.json(), self.made.get(request.path)
        if before is None:
            return _refusal(404, "NotFound", "not found")
        if request.method == "PATCH":
            assert request.content_type == "application/merge-patch+json"
            body = {**before, "metadata": {**before["metadata"], **body["metadata"]}}
        self.made[request.path] = body
        return web.json_response(body)

    def space(self, name: str, labels: Mapping[str, str]) -> None:
        """A namespace comes, or gets these labels; to whoever chooses by labels, one that loses them is as one that is removed."""
        made = self.remove_space(name) or {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self._space_comes({**made, "metadata": {**made["metadata"], "labels": dict(labels)}})

    def _space_comes(self, made: Object) -> None:
        self.version += 1
        made["metadata"].setdefault("uid", f"uid-{self.version}")
        made["metadata"]["resourceVersion"] = str(self.version)
        self.made[f"/api/v1/namespaces/{made['metadata']['name']}"] = made
        for stream in self._space_streams:
            stream.offer({"type": "ADDED", "object": made})

    def remove_space(self, name: str) -> Object | None:
        before = self.made.pop(f"/api/v1/namespaces/{name}", None)
        self.version += 1
        if before is not None:
            gone = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.version)}}
            for stream in self._space_streams:
                stream.offer({"type": "DELETED", "object": gone})
        return before

    async def _namespaces(self, request: web.Request) -> web.StreamResponse:
        """Those that were made, and a stream of those that come and go by `space` and `remove_space`."""
        if "watch" not in request.query:
            found = [{**each, "metadata": {"resourceVersion": "1", **each["metadata"]}} for each in self.made.values()]
            spaces = [each for each in found if each["kind"] == "Namespace" and _chosen(each, request)]
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": spaces})
        response = web.StreamResponse()
        await response.prepare(request)
        stream = _Stream(request)
        self._space_streams.append(stream)
        try:
            while (line := await stream.lines.get()) is not None:
                await response.write(line)
        finally:
            self._space_streams.remove(stream)
        return response

    async def _one(self, request: web.Request) -> web.StreamResponse:
        found = self._objects.get((request.match_info["namespace"], request.match_info["name"]))
        return _refusal(404, "NotFound", "not found") if found is None else web.json_response(found)

    async def _end(self, request: web.Request) -> web.StreamResponse:
        name, options = request.match_info["name"], await request.json()
        found = self._objects.get((request.match_info["namespace"], name))
        if found is None:
            return _refusal(404, "NotFound", "not found")
        if options.get("preconditions", {}).get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
            return _refusal(409, "Conflict", "the UID in the precondition does not match")
        self.ended.append((name, options))
        if self.kubelet is not None:
            self.remove(name, request.match_info["namespace"])
        return web.json_response(found)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self._forgotten:
            return web.json_response({"kind": "Status", "code": 410, "reason": "Expired"}, status=410)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if self.ending:
            return response
        stream = _Stream(request)
        self._streams.append(stream)
        for version, event in self._history:
            if version > since:
                stream.offer(event)
        try:
            while (line := await stream.lines.get()) is not None:
                step = self.piecewise or len(line)
                for begin in range(0, len(line), step):
                    await response.write(line[begin : begin + step])
                    await asyncio.sleep(0)
        except ConnectionResetError:
            pass  # who listened is gone
        finally:
            self._streams.remove(stream)
        return response


def _refusal(status: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": status, "reason": reason, "message": message}, status=status)


def _chosen(each: Object, request: web.Request) -> bool:
    """By the namespace in the path, and the selectors. What has no namespace, as an error in a stream, is for everybody."""
    metadata = each.get("metadata", {})
    namespace = request.match_info.get("namespace")
    if namespace is not None and metadata.get("namespace", namespace) != namespace:
        return False
    labels = metadata.get("labels", {})
    wanted = [one.partition("=") for one in request.query.get("labelSelector", "").split(",") if one]
    fields = [one.partition("=") for one in request.query.get("fieldSelector", "").split(",") if one]
    if metadata and any(_field(each, path) != value for path, _, value in fields):
        return False
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in wanted)


def _field(each: Any, path: str) -> Any:
    for name in path.split("."):
        each = each.get(name, {})
    return each


@asynccontextmanager
async def serving(kubernetes: FakeKubernetes) -> AsyncIterator[ApiClient]:
    """The cluster, and a client of it."""
    await kubernetes.come_back()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{kubernetes.port}"
    try:
        async with ApiClient(configuration) as client:
            yield client
    finally:
        with suppress(asyncio.CancelledError):
            await kubernetes.leave()


def kubeconfig(folder: Path, port: int) -> str:
    """A file that leads whoever connects to the cluster at `port` of this machine."""
    file = folder / "kubeconfig"
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    return str(file)
