"""Clusters from a notebook: create, find again, connect, stop."""

import functools
import time
from typing import Any, Self

from moorage import calls, card, connect, errors, wire
from moorage.client import Client
from moorage.cluster_words import USABLE, ended_sentence, status_line
from moorage.environment import Surroundings, surroundings
from moorage.progress import Narrator, show_elapsed
from moorage.quantities import InvalidQuantity, parse_count, parse_cpu, parse_memory
from moorage.wire.clusters import EngineName, OnNotebookEnd

POLL_S = 1.0
WAIT_S = 900.0


class Cluster:
    """One cluster of mine. What it shows is as of the last `refresh()`, which `wait()` and `connect()` do themselves.

    Every method may raise the errors of `moorage.errors`, whose text is a sentence.
    """

    def __init__(
        self, state: wire.Cluster, *, client: Client | None = None, around: Surroundings | None = None
    ) -> None:
        self._state = state
        self._client = client or default_client()
        self._around = around or surroundings()

    @classmethod
    def create(
        cls,
        engine: EngineName = "ray",
        *,
        workers: int | tuple[int, int] = 1,
        cpu: float | str = 1,
        memory: int | str = "2GiB",
        gpu: int = 0,
        gpu_type: str | None = None,
        head: wire.Size | None = None,
        name: str | None = None,
        project: str | None = None,
        on_notebook_end: OnNotebookEnd | None = None,
        client: Client | None = None,
    ) -> Self:
        """Ask for a cluster and return at once; `wait()` for it to be ready.

        `workers` is a number, or (least, most); `cpu`, `memory` and `gpu` are what each worker gets. When its notebook
        ends it is stopped soon after, or goes on with `on_notebook_end="keep"`. Raises LimitRefused with the rule and
        who holds what when a limit does not allow it.
        """
        spec = make_spec(engine, workers, cpu, memory, gpu, gpu_type, head)
        client = client or default_client()
        if on_notebook_end not in (None, "stop", "keep"):
            raise errors.InvalidInput(
                f"on_notebook_end {on_notebook_end!r} is unknown; write 'stop' or 'keep'.", field="on_notebook_end"
            )
        request = wire.ClusterRequest(
            project=project or surroundings().project, name=name, spec=spec, on_notebook_end=on_notebook_end
        )
        return cls(client.send(calls.create_cluster(request)), client=client)

    @property
    def id(self) -> str:
        return self._state.id

    @property
    def name(self) -> str:
        return self._state.name

    @property
    def engine(self) -> str:
        return self._state.spec.engine

    @property
    def phase(self) -> wire.Phase:
        return self._state.phase

    @property
    def state(self) -> wire.Cluster:
        """Everything the service said at the last refresh."""
        return self._state

    @property
    def status(self) -> str:
        """Where it is, in one line, asked anew."""
        return status_line(self.refresh()._state)

    @property
    def workers(self) -> int:
        """Workers alive at the last refresh."""
        return self._state.workers

    @property
    def versions(self) -> dict[str, str]:
        return dict(self._state.versions)

    @property
    def dashboard(self) -> str | None:
        """The dashboard's address for a browser; None before it is ready."""
        return self._around.link(self._state.dashboard)

    def refresh(self) -> Self:
        self._state = self._client.send(calls.cluster(self.id))
        return self

    def wait(self, timeout: float = WAIT_S, *, progress: bool = True) -> Self:
        """Block until it is ready (at most `timeout` seconds), and say how it goes.

        Raises ClusterEnded when it fails or is stopped first, WaitedTooLong when time is up.
        """
        narrator = Narrator() if progress else None
        start = time.monotonic()
        while self.refresh().phase is not wire.Phase.READY:
            if self.phase not in USABLE:
                raise errors.ClusterEnded(ended_sentence(self._state))
            passed = time.monotonic() - start
            if passed > timeout:
                raise errors.WaitedTooLong(
                    f"Cluster {self.name} is not ready after {show_elapsed(passed)}: {status_line(self._state)}. "
                    "It goes on starting: wait() again, or stop() it."
                )
            if narrator is not None:
                narrator.tell(self._label(), f"{status_line(self._state)} ({show_elapsed(passed)})")
            time.sleep(POLL_S)
        if narrator is not None and narrator.told:
            narrator.tell("ready", f"{status_line(self._state)} ({show_elapsed(time.monotonic() - start)})")
        return self

    def connect(self, timeout: float = WAIT_S) -> Any:
        """Wait until it is ready, and connect this kernel to it.

        Ray: the context of `ray.init`, after which `ray.get` and the rest work as ever. Dask: a `distributed.Client`.
        Doing it again gives the same connection. Raises EngineMissing, VersionMismatch or ConnectRefused.
        """
        self.wait(timeout)
        attach = self._client.send(calls.attach_cluster(self.id))
        return connect.connect(self.id, self.name, attach, self.dashboard)

    def stop(self, *, wait: bool = False, timeout: float = 120.0) -> None:
        """Disconnect this kernel and stop the cluster. One that is gone already is no error.

        With `wait`, block until it has ended; raises WaitedTooLong when it has not after `timeout` seconds.
        """
        connect.disconnect(self.id)
        try:
            self._client.send(calls.stop_cluster(self.id))
        except errors.NotFound:
            return
        start = time.monotonic()
        while wait and not self.refresh().phase.ended:
            if time.monotonic() - start > timeout:
                raise errors.WaitedTooLong(
                    f"Cluster {self.name} is still {self.phase} after {show_elapsed(timeout)}. "
                    "It is being stopped: look again with `moorage cluster show`, and tell your admin if it stays."
                )
            time.sleep(POLL_S)

    shutdown = stop

    def keep(self, hours: float | None = None) -> Self:
        """It goes on when its notebook ends; with `hours`, nothing but you or an admin stops it for so long from now."""
        seconds = None if hours is None else hours * 3600.0
        return self._change(wire.ClusterChange(on_notebook_end="keep", keep_for_s=seconds))

    def end_with_notebook(self) -> Self:
        """It is stopped soon after its notebook has ended, and may be stopped for idleness again."""
        return self._change(wire.ClusterChange(on_notebook_end="stop", keep_for_s=0))

    def _change(self, change: wire.ClusterChange) -> Self:
        self._state = self._client.send(calls.change_cluster(self.id, change))
        return self

    def log(self) -> str:
        """What head or scheduler and workers wrote."""
        return self._client.send(calls.cluster_log(self.id))

    def _label(self) -> str:
        return f"{self.phase} {self._state.reason} {self._state.workers}"

    def __repr__(self) -> str:
        return f"<Cluster {status_line(self._state)}>"

    def _repr_html_(self) -> str:
        return card.cluster_card(self._state, self.dashboard)


def clusters(project: str | None = None, *, client: Client | None = None) -> list[Cluster]:
    """My clusters that have not ended, in this notebook's project (or the given one; everywhere outside a notebook)."""
    client = client or default_client()
    found = client.send(calls.clusters(project or surroundings().project))
    return [Cluster(state, client=client) for state in found if not state.phase.ended]


def attach(
    name: str | None = None, *, engine: EngineName | None = None, timeout: float = WAIT_S, client: Client | None = None
) -> Cluster:
    """Find my cluster again and wait until it is ready: after a kernel restart, or in a scheduled run.

    Without a name: the run's own cluster (`MOORAGE_CLUSTER`), else the only one of this project (and of `engine`, if one
    is given). Raises NoCluster or SeveralClusters, which say what to do.
    """
    client = client or default_client()
    own = surroundings().cluster
    if name is None and own is not None:
        return Cluster(client.send(calls.cluster(own)), client=client).wait(timeout)
    live = [
        cluster for cluster in clusters(client=client) if cluster.phase in USABLE and engine in (None, cluster.engine)
    ]
    return choose(live, name).wait(timeout)


def choose(live: list[Cluster], name: str | None) -> Cluster:
    """The one that is meant, of those that can be used."""
    names = ", ".join(sorted(cluster.name for cluster in live))
    if name is not None:
        for cluster in live:
            if name in (cluster.name, cluster.id):
                return cluster
        there = f"There are: {names}." if live else "There is none at all."
        raise errors.NoCluster(f"No cluster of yours here is named {name!r}. {there} Make one with moorage.sizing().")
    if not live:
        raise errors.NoCluster(
            "You have no cluster in this project. Make one with moorage.sizing(), or "
            'moorage.Cluster.create("ray", workers=(1, 2)).'
        )
    if len(live) > 1:
        raise errors.SeveralClusters(
            f"You have {len(live)} clusters here: {names}. Say which: moorage.attach({live[0].name!r})."
        )
    return live[0]


@functools.cache
def default_client() -> Client:
    """The client of this process's surroundings, made once. Raises NotConfigured outside Moorage."""
    return Client.here()


def make_spec(
    engine: EngineName,
    workers: int | tuple[int, int],
    cpu: float | str,
    memory: int | str,
    gpu: int = 0,
    gpu_type: str | None = None,
    head: wire.Size | None = None,
) -> wire.ClusterSpec:
    """A cluster's shape from what a person wrote. Raises InvalidInput naming the value; limits are the service's."""
    least, most = (workers, workers) if isinstance(workers, int) else workers
    if engine not in ("ray", "dask"):
        raise errors.InvalidInput(f"engine {engine!r} is unknown; write 'ray' or 'dask'.", field="engine")
    if least < 0 or most < max(1, least):
        raise errors.InvalidInput(
            f"workers ({least}, {most}) cannot be: write (least, most) with 0 <= least <= most and most >= 1.",
            field="workers",
        )
    try:
        gpu = parse_count(gpu, "gpu")
        size = wire.Size(cpu=parse_cpu(cpu), memory=parse_memory(memory), gpu=gpu, gpu_type=gpu_type if gpu else None)
    except InvalidQuantity as error:
        raise errors.InvalidInput(str(error)) from error
    return wire.ClusterSpec(engine=engine, min_workers=least, max_workers=most, worker=size, head=head)
