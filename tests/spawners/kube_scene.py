"""A hub's spawner, a service and a cluster without machines: what happens to its pods the tests say themselves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jupyterhub import orm
from jupyterhub.objects import Hub, Server
from jupyterhub.user import User
from kubernetes_asyncio.client import ApiClient
from traitlets.config import Config

from moorage.wire import NotebookAdmission, PodPlace
from moorage_spawners.kube import ProjectKubeSpawner
from tests.fakes import notebook_service
from tests.fakes.kubernetes import FakeKubernetes, serving
from tests.fakes.notebook_service import FakeService

NAMESPACE = "moorage-ada-h-abc"
IMAGE = "registry.example.org/moorage/env@sha256:" + "0" * 64
PLACE = PodPlace(
    namespace=NAMESPACE, image=IMAGE, home_claim="home", secret_name="nb-1-token", owner="us-1",
    secret_variables={"MOORAGE_TOKEN": "token", "API_KEY": "user-api-key", "HOME": "user-home", "JUPYTERHUB_API_TOKEN": "forged"},
)  # fmt: skip
ADMISSION = NotebookAdmission(
    workload_id="nb", generation=1, token="", project="tide", environment="0123abcd", environment_path="/nowhere", project_files=None,
    home="/nowhere", uid=None, gid=None, pod=PLACE,
)  # fmt: skip
POD = "nb-1-1"
WITHIN = 20.0


@dataclass
class Scene:
    kubernetes: FakeKubernetes
    service: FakeService
    api: ApiClient
    config: Config
    db: Any
    orm_user: Any
    host: str
    steps: list[str] = field(default_factory=list)
    _listening: list["asyncio.Task[None]"] = field(default_factory=list)

    @property
    def events(self) -> FakeKubernetes:
        assert self.kubernetes.events is not None
        return self.kubernetes.events

    def spawner(self) -> ProjectKubeSpawner:
        """As the hub makes it, at its start or when it was restarted."""
        settings = {
            "config": self.config, "spawner_class": ProjectKubeSpawner, "base_url": "/hub/",
            "hub": Hub(ip=self.host, port=self.service.port),
        }  # fmt: skip
        user = User(self.orm_user, settings, db=self.db)
        if "tide" not in self.orm_user.orm_spawners:
            user._new_orm_spawner("tide", "tide")
        spawner = user.spawners["tide"]
        assert isinstance(spawner, ProjectKubeSpawner)
        spawner.api = self.api
        spawner.load_state(spawner.orm_spawner.state or {})
        if spawner.orm_spawner.server is None:
            server = orm.Server(base_url="/user/ada/tide/")
            self.db.add(server)
            self.db.commit()
            spawner.server = Server(orm_server=server)
        return spawner

    def start(self, spawner: ProjectKubeSpawner, **options: Any) -> "asyncio.Task[str]":
        spawner.apply_options(options)
        spawner.api_token = spawner.api_token or "0123456789abcdef"  # the hub's, of a new server
        spawner._start_pending = True
        starting = asyncio.create_task(spawner.start())
        starting.add_done_callback(lambda _done: setattr(spawner, "_start_pending", False))
        self._listening.append(asyncio.create_task(self._listen(spawner)))
        return starting

    async def _listen(self, spawner: ProjectKubeSpawner) -> None:
        async for step in spawner.progress():
            self.steps.append(step["message"])

    async def made(self) -> dict[str, Any]:
        """The pod, as soon as it is there."""
        await self.until(lambda: self.pod is not None)
        assert self.pod is not None
        return self.pod

    @property
    def pod(self) -> dict[str, Any] | None:
        return next(iter(self.kubernetes.objects()), None)

    def happens(self, state: dict[str, Any] | None = None, phase: str = "Pending", **status: Any) -> None:
        """To the pod, as its machine tells it. `conditions`: type -> what is said of it."""
        assert self.pod is not None
        found = {"phase": phase, **status}
        found["conditions"] = [{"type": kind, **each} for kind, each in status.get("conditions", {}).items()]
        if state is not None:
            found["containerStatuses"] = [{"name": "server", "state": state}]
        metadata = {key: value for key, value in self.pod["metadata"].items() if key != "resourceVersion"}
        self.kubernetes.put(metadata["name"], metadata["namespace"], metadata=metadata, status=found)

    def answers(self, address: str = "10.1.2.3") -> None:
        self.happens(
            {"running": {}},
            "Running",
            podIP=address,
            conditions={"PodScheduled": {"status": "True"}, "Ready": {"status": "True"}},
        )

    def ends(self, code: int, said: str = "", reason: str = "Error") -> None:
        self.happens(
            {"terminated": {"exitCode": code, "reason": reason, "message": said}}, "Failed" if code else "Succeeded"
        )

    def event(self, reason: str, message: str) -> None:
        assert self.pod is not None
        about = {"kind": "Pod", "uid": self.pod["metadata"]["uid"], "name": self.pod["metadata"]["name"]}
        self.events.put(
            f"{reason}-{self.events.version}".lower(), NAMESPACE, reason=reason, message=message, involvedObject=about
        )

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN):
            while not condition():  # noqa: ASYNC110 - it is the other side
                await asyncio.sleep(0.01)

    async def told(self, state: str, words: str) -> None:
        """To the service."""
        await self.until(
            lambda: any(
                each["state"] == state and words in (each["message"] or "") for each in self.service.observations
            )
        )

    def runs(self, **changes: Any) -> None:
        """From now on the service says so of the notebook."""
        assert self.service.admission is not None
        self.service.admission = replace(self.service.admission, runs=True, **changes)


@asynccontextmanager
async def scene(folder: Path, **settings: Any) -> AsyncIterator[Scene]:
    kubernetes = FakeKubernetes(events=FakeKubernetes(kind="events"))
    async with serving(kubernetes) as api, hub(folder, kubernetes, api, **settings) as made:
        yield made


@asynccontextmanager
async def hub(
    folder: Path, kubernetes: FakeKubernetes, api: ApiClient, host: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[Scene]:
    """All but the cluster; `host`: where hub and service are found by pods."""
    (folder / "token").write_text("hub-token\n")
    service = FakeService(token="hub-token", hub_api="", hub_token="", admission=ADMISSION)
    db = orm.new_session_factory("sqlite:///:memory:")()
    orm_user = orm.User(name="ada")
    db.add(orm_user)
    db.commit()
    with notebook_service.serving(service, host=host):
        config = Config()
        config.ProjectSpawner.service_url = f"http://{host}:{service.port}{notebook_service.PREFIX}"
        config.ProjectSpawner.address = "https://moorage.example.org"
        config.ProjectSpawner.token_file = str(folder / "token")
        config.ProjectKubeSpawner.retry_s = 0.05
        config.ProjectKubeSpawner.hopeless_s = 0.3
        config.Spawner.start_timeout = 60
        config.merge(json.loads(json.dumps(settings)))
        made = Scene(kubernetes, service, api, config, db, orm_user, host)
        try:
            yield made
        finally:
            for task in made._listening:
                task.cancel()
            await asyncio.gather(*made._listening, return_exceptions=True)
            db.close()
