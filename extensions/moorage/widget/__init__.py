"""The sizing widget: `moorage.sizing("ray")` as the last line of a cell."""

import threading
from typing import Any

from moorage import overlay, wire
from moorage.client import Client
from moorage.cluster import Cluster, attach, choose, clusters, default_client
from moorage.environment import surroundings
from moorage.errors import InvalidInput, NoCluster
from moorage.widget.plain import plain_text
from moorage.widget.state import SizingState
from moorage.widget.support import why_no_widget
from moorage.wire.clusters import EngineName

__all__ = ["Sizing", "sizing"]

_lock = threading.Lock()
_shown: dict[str | None, "Sizing"] = {}


def sizing(engine: EngineName | None = None, *, client: Client | None = None) -> "Sizing":
    """The sizing widget, with the engine chosen beforehand. Showing it again takes the place of the earlier one.

    What it gives also stands for the cluster that is made or chosen in it: `connect()`, `stop()`, `cluster`.
    In a scheduled run it is the run's own cluster, and where no widget can be shown it is text that says how to go on.
    """
    if engine not in (None, "ray", "dask"):
        raise InvalidInput(f"engine {engine!r} is unknown; write 'ray' or 'dask'.", field="engine")
    with _lock:
        before = _shown.pop(engine, None)
        if before is not None:
            before.close()
        found = _shown[engine] = Sizing(engine, client or default_client())
    return found


class Sizing:
    """What `sizing()` shows. Nothing is asked of the service before it is shown or used."""

    def __init__(self, engine: EngineName | None, client: Client) -> None:
        self._engine = engine
        self._client = client
        self._around = surroundings()
        self._widget: Any = None
        self._state: SizingState | None = None

    @property
    def cluster(self) -> Cluster:
        """The cluster made or chosen here; else the only one of this engine in the project. Raises NoCluster."""
        if self._around.cluster is not None:
            return attach(client=self._client)
        chosen = None if self._state is None else self._state.chosen
        if chosen is not None and not chosen.phase.ended:
            return Cluster(chosen, client=self._client)
        live = [
            one
            for one in clusters(client=self._client)
            if self._engine in (None, one.engine) and one.phase is not wire.Phase.STOPPING
        ]
        if not live:
            raise NoCluster("There is no cluster yet: press Create in the widget above, then run this cell again.")
        return choose(live, None)

    def connect(self) -> Any:
        """Wait until the cluster is ready and connect this kernel to it, see `Cluster.connect`."""
        return self.cluster.connect()

    def wait(self) -> Cluster:
        return self.cluster.wait()

    def stop(self) -> None:
        self.cluster.stop()

    shutdown = stop

    @property
    def dashboard(self) -> str | None:
        return self.cluster.refresh().dashboard

    @property
    def status(self) -> str:
        return self.cluster.status

    def close(self) -> None:
        """End its thread; the picture stays as it is."""
        if self._state is not None:
            self._state.close()

    def text(self, why: str) -> str:
        return plain_text(self._client, self._around, self._engine, why)

    def _repr_mimebundle_(self, **_wanted: Any) -> Any:
        if self._around.cluster is not None:
            return {"text/plain": "This run has a cluster of its own. cluster.connect() waits for it and connects."}
        why = why_no_widget()
        if why is not None:
            return {"text/plain": self.text(why)}
        return self._view()._repr_mimebundle_()

    def _view(self) -> Any:
        if self._widget is None:
            from moorage.widget.view import SizingView  # only here: it needs ipywidgets and anywidget

            widget = SizingView()
            state = SizingState(self._client, self._around, widget.show, engine=self._engine, overlay=overlay.packages)
            widget.heard_by(state.handle)
            self._widget, self._state = widget, state
            widget.show(state.view())
            state.start()
        return self._widget
