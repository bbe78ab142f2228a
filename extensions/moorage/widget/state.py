"""The sizing widget without its picture: what was chosen, what the service says, and a thread that follows clusters.

The kernel is never blocked: everything that speaks to the service runs in threads of its own.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from moorage import calls, connect, errors, wire
from moorage.client import Client
from moorage.cluster_words import seconds_since
from moorage.environment import Surroundings
from moorage.widget import arithmetic, looks
from moorage.widget.arithmetic import Form
from moorage.wire.clusters import EngineName

log = logging.getLogger(__name__)

LIVELY_S = 1.0  # between looks while something changes
QUIET_S = 5.0

View = dict[str, Any]


class SizingState:
    """Holds the form, my clusters and the chosen one; calls `show` with the whole view whenever it changed.

    `show` may be called from any thread, one call at a time.
    """

    def __init__(
        self,
        client: Client,
        around: Surroundings,
        show: Callable[[View], None],
        *,
        engine: EngineName | None = None,
        overlay: Callable[[], list[str]] = list,
        lively_s: float = LIVELY_S,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._client = client
        self._around = around
        self._show = show
        self._engine = engine
        self._overlay = overlay
        self._waits = (lively_s, quiet_s)
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = False
        self._options: wire.ClusterOptions | None = None
        self._form: Form | None = None
        self._clusters: list[wire.Cluster] = []
        self._chosen: wire.Cluster | None = None
        self._attach: wire.Attach | None = None
        self._trouble: errors.MoorageError | None = None
        self._busy: str | None = None
        self._offline: str | None = None
        self._new = False  # the person asked for the form though a cluster is there

    # --- what the person does ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for the options and follow my clusters, in a thread that lives until `close()`."""
        threading.Thread(target=self._follow, name="moorage-sizing", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def handle(self, message: dict[str, Any]) -> None:
        """One message of the front end. Returns at once; unknown ones are ignored."""
        doing = message.get("do")
        if doing == "change":
            self.change(str(message.get("field")), message.get("value"))
        elif doing == "create":
            self._in_background("Asking for the cluster...", self.create)
        elif doing == "stop":
            cluster_id = str(message.get("id"))
            self._in_background("Stopping...", lambda: self.stop(cluster_id))
        elif doing == "keep":
            cluster_id, change = str(message.get("id")), _change_of(message)
            self._in_background("Asking...", lambda: self.keep(cluster_id, change))
        elif doing == "choose":
            self.choose(str(message.get("id")))
        elif doing == "new":
            self.show_form()
        elif doing == "refresh":
            self._wake.set()

    def change(self, field: str, value: object) -> None:
        with self._lock:
            if self._form is None or self._options is None:
                return
            changed = arithmetic.change(self._form, field, value, self._options)
            if field == "engine" and changed.engine != self._form.engine:
                changed = arithmetic.first_form(self._options, changed.engine)
            self._form, self._trouble = changed, None
            self._publish()

    def create(self) -> None:
        """Ask for what the form says. A refusal is shown, not raised."""
        with self._lock:
            if self._form is None:
                return
            request = wire.ClusterRequest(
                project=self._around.project, spec=self._form.spec(), on_notebook_end=self._form.on_notebook_end
            )
        try:
            made = self._client.send(calls.create_cluster(request))
        except errors.MoorageError as error:
            with self._lock:
                self._trouble = error
            return
        with self._lock:
            self._trouble, self._chosen, self._attach, self._new = None, made, None, False
            self._clusters = [made, *(one for one in self._clusters if one.id != made.id)]

    def stop(self, cluster_id: str) -> None:
        connect.disconnect(cluster_id)
        try:
            self._client.send(calls.stop_cluster(cluster_id))
        except errors.NotFound:
            pass  # gone already: the next look shows it
        except errors.MoorageError as error:
            with self._lock:
                self._trouble = error

    def keep(self, cluster_id: str, change: wire.ClusterChange) -> None:
        """Put off its end, or say what becomes of it when the notebook ends."""
        try:
            changed = self._client.send(calls.change_cluster(cluster_id, change))
        except errors.MoorageError as error:
            with self._lock:
                self._trouble = error
            return
        with self._lock:
            self._trouble = None
            if self._chosen is not None and self._chosen.id == cluster_id:
                self._chosen = changed

    def choose(self, cluster_id: str) -> None:
        with self._lock:
            found = next((one for one in self._clusters if one.id == cluster_id), None)
            if found is not None:
                self._chosen, self._attach, self._trouble, self._new = found, None, None, False
                self._publish()
                self._wake.set()

    def show_form(self) -> None:
        with self._lock:
            self._chosen, self._attach, self._trouble, self._new = None, None, None, True
            self._publish()
            self._wake.set()

    @property
    def chosen(self) -> wire.Cluster | None:
        with self._lock:
            return self._chosen

    # --- the thread -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._closed:
            try:
                self.look()
            except Exception:  # the edge of the thread: the next look may go well
                log.warning("The sizing widget could not look at the clusters", exc_info=True)
            self._wake.wait(self._pause())
            self._wake.clear()

    def look(self) -> None:
        """Ask the service once, and show what changed."""
        try:
            options = None
            if self._options is None or self.chosen is None:
                options = self._client.send(calls.cluster_options(self._around.project))
            clusters = self._client.send(calls.clusters(self._around.project))
            chosen = self._look_at_chosen(clusters)
            attach = self._attach_of(chosen)
        except errors.MoorageError as error:
            with self._lock:
                self._offline = error.message
                self._publish()
            return
        with self._lock:
            self._offline = None
            self._take(options, clusters, chosen, attach)
            self._publish()

    def _look_at_chosen(self, clusters: list[wire.Cluster]) -> wire.Cluster | None:
        before = self.chosen
        if before is None:
            return None
        listed = next((one for one in clusters if one.id == before.id), None)
        if listed is not None and listed.phase is wire.Phase.READY and before.phase is wire.Phase.READY:
            return replace(listed, events=before.events)
        try:
            return self._client.send(calls.cluster(before.id))
        except errors.NotFound:
            return replace(before, phase=wire.Phase.STOPPED, reason="It is not there any more.")

    def _attach_of(self, chosen: wire.Cluster | None) -> wire.Attach | None:
        if chosen is None or chosen.phase is not wire.Phase.READY:
            return None
        return self._attach or self._client.send(calls.attach_cluster(chosen.id))

    def _take(
        self,
        options: wire.ClusterOptions | None,
        clusters: list[wire.Cluster],
        looked: wire.Cluster | None,
        attach: wire.Attach | None,
    ) -> None:
        """Keep what the service said; a choice that the person made meanwhile wins."""
        self._clusters = [one for one in clusters if not one.phase.ended]
        if options is not None:
            self._options = options
            if self._form is None:
                self._form = arithmetic.first_form(options, self._engine)
            else:
                self._form = arithmetic.fit(self._form, options)
        if looked is not None and self._chosen is not None and self._chosen.id == looked.id:
            self._chosen, self._attach = looked, attach
        if self._chosen is None and not self._new:
            usable = [one for one in self._clusters if one.phase is not wire.Phase.STOPPING]
            self._chosen = next((one for one in usable if self._engine in (None, one.spec.engine)), None)
            if self._chosen is not None:
                self._wake.set()

    def _pause(self) -> float:
        settled = (wire.Phase.READY, wire.Phase.STOPPED, wire.Phase.FAILED)
        with self._lock:
            moving = any(one.phase not in settled for one in self._clusters) or self._busy is not None
        return self._waits[0] if moving else self._waits[1]

    def _in_background(self, busy: str, work: Callable[[], None]) -> None:
        with self._lock:
            if self._busy is not None:
                return
            self._busy = busy
            self._publish()

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._busy = None
                    self._publish()
                self._wake.set()

        threading.Thread(target=run, name="moorage-sizing-act", daemon=True).start()

    # --- what is shown ----------------------------------------------------------------------------------------------

    def view(self) -> View:
        """Everything the front end needs, as plain data."""
        with self._lock:
            chosen_id = None if self._chosen is None else self._chosen.id
            view: View = {
                "loading": self._options is None and self._offline is None,
                "busy": self._busy,
                "offline": self._offline,
                "trouble": None if self._trouble is None else looks.trouble_look(self._trouble),
                "clusters": [looks.row_look(one, one.id == chosen_id) for one in self._clusters],
                "form": None,
                "check": None,
                "cluster": None,
            }
            if self._chosen is not None:
                view["cluster"] = self._chosen_look(self._chosen)
            elif self._form is not None and self._options is not None:
                view["form"] = looks.form_look(self._form, self._options)
                view["check"] = looks.check_look(arithmetic.check(self._form, self._options))
            return view

    def _chosen_look(self, chosen: wire.Cluster) -> View:
        passed = seconds_since(chosen.created_at)
        if chosen.ready_at is not None and chosen.phase is wire.Phase.READY:
            passed -= seconds_since(chosen.ready_at)
        return looks.cluster_look(
            chosen,
            elapsed_s=max(0.0, passed),
            dashboard=self._around.link(chosen.dashboard),
            attach=self._attach,
            only=len(self._clusters) <= 1,
            overlay=self._overlay(),
        )

    def _publish(self) -> None:
        if not self._closed:
            self._show(self.view())


def _change_of(message: dict[str, Any]) -> wire.ClusterChange:
    """What a button stands for; anything else changes nothing."""
    hours, ending = message.get("hours"), message.get("on_notebook_end")
    return wire.ClusterChange(
        keep_for_s=hours * 3600.0 if isinstance(hours, int | float) else None,
        on_notebook_end="stop" if ending == "stop" else "keep" if ending == "keep" else None,
    )
