"""Pods as observations, like those of local processes, so that whoever keeps workloads need not know which they are.

When is a pod gone for certain? When its object is absent from a complete list, or its phase is terminal and none of its containers
is said to run: the kubelet writes that after it has ended them. A terminal phase beside a container that still "runs" was written
by somebody else, for a machine that does not answer; so was a deletion that is overdue. Both are `lost` until the object is gone.
Whoever deletes by force says that the machine is dead; Kubernetes believes it, and so do we.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from moorage.wire.workloads import Size
from moorage_spawners.launch.errors import StaleViewError
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.quantity import parse_quantity
from moorage_spawners.launch.reasons import Reason, explain
from moorage_spawners.launch.reasons.endings import UNSEEN
from moorage_spawners.launch.reasons.reading import moment, states, status
from moorage_spawners.launch.timing import STALE_AFTER_S
from moorage_spawners.launch.types import Object, Observation, ProcessState
from moorage_spawners.launch.watch import Change, Watcher

OVERDUE = timedelta(seconds=60)  # after the end of a pod's grace its kubelet would long have confirmed its end
MOST_DEPARTED = 5000
REMOVED = "Its pod was removed from the cluster. Start it again."
BY_REQUEST = (2, 9, 15)  # signals by which whoever removes a pod ends it


def now_utc() -> datetime:
    return datetime.now(UTC)


def observe(pod: Object, now: datetime, events: Sequence[Object] = ()) -> Observation | None:
    """What is seen of a pod by itself; None when it is none of ours."""
    whose = Ownership.of(pod["metadata"])
    if whose is None:
        return None
    state = _state(pod, now)
    main = _main(pod, whose.role)
    end = main.get("terminated") or {}
    reason = explain(pod, events, now)
    exit_code, signal = _exit(end)
    removed = state == "exited" and _was_removed(pod, reason, signal)
    return Observation(
        workload_id=whose.workload_id,
        generation=whose.generation,
        role=whose.role,
        state=state,
        started_at=(main.get("running") or end).get("startedAt"),
        ended_at=end.get("finishedAt"),
        exit_code=exit_code if state == "exited" else None,
        signal=signal if state == "exited" else None,
        out_of_memory=sum(each.get("reason") == "OOMKilled" for each in states(pod, "terminated")),
        labels={"kind": whose.kind, "owner": whose.owner, "project": whose.project},
        message=REMOVED if removed else None if reason is None else str(reason),
        reason="pod.removed" if removed else None if reason is None else reason.code,
        size=None if state == "exited" else _size(pod),
    )


def _was_removed(pod: Object, reason: Reason | None, signal: int | None) -> bool:
    """Ended by whoever asked for its removal, without another cause that is known: it was no crash, and no end of its own."""
    if not pod["metadata"].get("deletionTimestamp"):
        return False
    return reason is None or (reason.code == "pod.crashed" and signal in BY_REQUEST)


def departed(pod: Object, now: datetime, events: Sequence[Object] = ()) -> Observation | None:
    """What is left to say of a pod whose object is gone, by what was seen of it last."""
    last = observe(pod, now, events)
    if last is None or last.state == "exited":
        return last
    # What only kept it waiting is no reason for its end.
    told = last.reason is not None and last.reason in (
        "pod.preempted",
        "pod.drained",
        "pod.node_lost",
        "pod.node_shutdown",
    )
    return Observation(
        workload_id=last.workload_id, generation=last.generation, role=last.role, state="exited", started_at=last.started_at,
        ended_at=now.isoformat(), labels=last.labels,
        message=last.message if told else REMOVED, reason=last.reason if told else "pod.removed",
    )  # fmt: skip


def _in_doubt(pod: Object, now: datetime) -> bool:
    """Neither did it end, nor did anybody ask for its end."""
    return not pod["metadata"].get("deletionTimestamp") and _state(pod, now) != "exited"


def _state(pod: Object, now: datetime) -> ProcessState:
    phase = status(pod).get("phase")
    runs = any(True for _ in states(pod, "running"))
    if phase in ("Succeeded", "Failed"):
        return "lost" if runs else "exited"
    doomed = moment(pod["metadata"].get("deletionTimestamp"))
    if phase == "Unknown" or status(pod).get("reason") == "NodeLost" or (doomed is not None and now - doomed > OVERDUE):
        return "lost"
    began = runs or any(True for _ in states(pod, "terminated"))
    return "running" if phase == "Running" and began else "starting"


def _size(pod: Object) -> Size:
    """The sum of what its containers request, which is what the scheduler and quotas count."""
    asked = [
        (each.get("resources") or {}).get("requests") or {} for each in (pod.get("spec") or {}).get("containers") or ()
    ]

    def total(name: str) -> Decimal:
        return sum((parse_quantity(str(each.get(name, 0))) for each in asked), Decimal())

    devices = {name for each in asked for name in each if "/" in name}  # only GPUs are asked for by such names here
    return Size(cpu=float(total("cpu")), memory=int(total("memory")), gpu=int(sum(total(name) for name in devices)))


def _main(pod: Object, role: str) -> Mapping[str, Any]:
    """The state of the container that is the workload's program: the one named after its role, or the only one."""
    found = status(pod).get("containerStatuses") or ()
    named = [each for each in found if each.get("name") == role] or found
    return (named[0].get("state") or {}) if named else {}


def _exit(end: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Exit code and signal: a runtime reports an end by a signal as 128 and its number, as a shell does."""
    code = end.get("exitCode")
    if code is None or end.get("reason") == UNSEEN:
        return None, None
    signal = end.get("signal") or (code - 128 if 128 < code <= 192 else None)
    return (None, signal) if signal else (code, None)


class PodObserver:
    """What is seen of all our pods, by workload. Made before its watchers start, so that it hears of everything.

    `events` may be left out; then a pod tells only what its status says. `seek` is called with a pod that is said to be gone, though it
    was not seen to end: it runs until `went` says that it is gone.
    """

    def __init__(
        self, pods: Watcher, events: Watcher | None = None, *,
        stale_after_s: float = STALE_AFTER_S, clock: Callable[[], datetime] = now_utc, seek: Callable[[Object], None] | None = None,
    ) -> None:  # fmt: skip
        self._pods = pods
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._seek = seek
        self._living: dict[str, dict[str, Object]] = {}  # workload -> uid -> pod
        self._whose: dict[str, Ownership] = {}  # uid -> whose it was when it was seen first
        self._departed: dict[str, dict[str, Observation]] = {}
        self._events: dict[str, dict[str, Object]] = {}  # uid of the pod -> name of the event -> event
        pods.listen(self._take_pod)
        if events is not None:
            events.listen(self._take_event)

    def observe(self, workload_id: str, namespace: str | None = None) -> list[Observation]:
        """Of each role the newest generation's pods, and any older one that is not gone. Raises StaleViewError.

        An empty answer means that none was there `stale_after_s` ago: what was made since then is to be noted with the watcher.
        `namespace`: where it runs; what is heard of others does not matter then.
        """
        if not self._pods.fresh_within(self._stale_after_s, namespace):
            raise StaleViewError(
                f"The cluster was not heard of for more than {self._stale_after_s:.0f} s, so nothing is decided about what "
                f"runs there. {self._pods.trouble or 'It is asked again and again.'}"
            )
        return self.seen(workload_id)

    def seen(self, workload_id: str) -> list[Observation]:
        """As `observe`, however long ago that was."""
        now = self._clock()
        living = [observe(pod, now, self._of(uid)) for uid, pod in self._living.get(workload_id, {}).items()]
        found = [seen for seen in living if seen is not None] + list(self._departed.get(workload_id, {}).values())
        newest = {seen.role: max(each.generation for each in found if each.role == seen.role) for seen in found}
        shown = [seen for seen in found if not seen.gone or seen.generation == newest[seen.role]]
        return sorted(shown, key=lambda seen: (seen.role, seen.generation))

    def observe_all(self) -> list[Observation]:
        """Of every workload of which anything is or was seen. Raises StaleViewError."""
        return [seen for workload_id in self.workloads() for seen in self.observe(workload_id)]

    def workloads(self) -> list[str]:
        """Those of which anything is or was seen."""
        return sorted({*self._living, *self._departed})

    def pods(self, workload_id: str) -> list[Object]:
        """As they were seen last."""
        return list(self._living.get(workload_id, {}).values())

    def forget(self, workload_id: str) -> None:
        """Drops what was kept of pods that are gone."""
        self._departed.pop(workload_id, None)

    def _of(self, uid: str) -> list[Object]:
        return list(self._events.get(uid, {}).values())

    def _take_pod(self, change: Change) -> None:
        """A pod stays whose it was: somebody may change its labels, and it runs on."""
        uid = str(change.object["metadata"].get("uid", ""))
        whose = self._whose.get(uid) or Ownership.of(change.object["metadata"])
        if whose is None:
            return
        workload_id, pod = whose.workload_id, whose.marked(change.object)
        if change.kind == "seen":
            self._whose[uid] = whose
            self._living.setdefault(workload_id, {})[uid] = pod
        elif self._seek is not None and uid in self._whose and _in_doubt(pod, self._clock()):
            self._seek(pod)
        else:
            self._take_end(workload_id, uid, pod)

    def note(self, pod: Object) -> None:
        """As it is now, by who looked for it."""
        self._take_pod(Change("seen", pod))

    def went(self, pod: Object) -> None:
        """It is gone for certain."""
        uid = str(pod["metadata"].get("uid", ""))
        whose = self._whose.get(uid)
        if whose is not None:
            self._take_end(whose.workload_id, uid, self._living.get(whose.workload_id, {}).get(uid, pod))

    def _take_end(self, workload_id: str, uid: str, pod: Object) -> None:
        self._whose.pop(uid, None)
        self._living.get(workload_id, {}).pop(uid, None)
        if not self._living.get(workload_id):
            self._living.pop(workload_id, None)
        last = departed(pod, self._clock(), self._of(uid))
        if last is not None:
            self._departed.setdefault(workload_id, {})[uid] = last
        while len(self._departed) > MOST_DEPARTED:
            self._departed.pop(next(iter(self._departed)))  # the oldest; its owner has had its chance

    def _take_event(self, change: Change) -> None:
        uid = str((change.object.get("involvedObject") or {}).get("uid") or "")
        name = change.object["metadata"]["name"]
        if change.kind == "seen":
            self._events.setdefault(uid, {})[name] = change.object
            return
        self._events.get(uid, {}).pop(name, None)
        if not self._events.get(uid):
            self._events.pop(uid, None)
