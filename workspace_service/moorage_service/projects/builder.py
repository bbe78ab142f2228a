"""The threads that build environments, and make a finished one the project's current one."""

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import select, update

from moorage_images.errors import BuildCancelledError, ImagesError
from moorage_service.context import Context
from moorage_service.errors import ServiceError
from moorage_service.projects import builds, manifests
from moorage_service.projects.platforms.base import BuildPlatform, Built
from moorage_service.projects.platforms.local import LocalBuilds
from moorage_service.store.tables import BuildRow, EnvironmentRow, ProjectRow
from moorage_service.store.text import storable
from moorage_spawners.launch.crash_points import reach

log = logging.getLogger(__name__)

LOOK_S = 0.5  # between two looks whether the build that runs goes on
DIED = "The service ended while it built this environment. Build again."
UNRECORDED = "The database failed while this environment was built, so that its end could not be recorded. Build again."
UPKEEP_S = 3600.0  # between two looks at what the platform keeps
PAUSE_S = 5.0  # between two looks at the store, when nobody wakes us


class Builder:
    """Claims queued builds, one user's after another's, as many at once as the platform takes. `start` and `stop` it once."""

    def __init__(
        self, context: Context, platform: BuildPlatform | None = None, *, upkeep_s: float = UPKEEP_S
    ) -> None:
        """`platform`: the one of the settings, if left out."""
        self._context = context
        self._platform = _platform_of(context) if platform is None else platform
        self._stopping = threading.Event()
        self._running: dict[str, threading.Event] = {}  # build -> what cancels it
        self._turn = threading.Lock()  # whoever claims, recovers or keeps up, of the threads
        self._recovered_in: int | None = None  # which term of this process
        self._reason = DIED
        self._upkeep_s = upkeep_s
        self._upkeep_at = 0.0  # of the monotonic clock
        self._threads = [
            threading.Thread(target=self._loop, name=f"builder-{number}", daemon=True)
            for number in range(self._platform.at_once)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Builds that run go back into the queue, for the next start of the service."""
        self._stopping.set()
        for cancel in list(self._running.values()):
            cancel.set()
        self._context.wakeup.notify()
        for thread in self._threads:
            thread.join(timeout=30)
        self._platform.close()

    def recover(self, reason: str = DIED) -> None:
        """What a dead service, or a store that was away, left. What ran, and no thread of ours is at, is failed with `reason`,
        for it may be what killed the service. Raises OutdatedError when it is another process's to do.
        """
        running = list(self._running)
        with self._context.database.begin() as session:
            self._context.leadership.require()
            session.execute(
                update(BuildRow)
                .where(BuildRow.state == "building", BuildRow.id.not_in(running))
                .values(state="failed", ended_at=self._context.clock(), error=reason)
            )
        self._platform.sweep(running, self._stopping)

    def run_once(self) -> bool:
        """Builds the oldest queued build, if there is one."""
        with self._turn:
            claimed = self._claim()
            if claimed is None:
                return False
            build_id, project_id, manifest = claimed
            cancel = self._running[build_id] = threading.Event()
        if self._stopping.is_set():
            cancel.set()
        try:
            reach("build.claimed")
            self._carry_out(build_id, project_id, manifest, cancel)
        finally:
            del self._running[build_id]
        self._context.wakeup.notify()
        return True

    def _carry_out(self, build_id: str, project_id: str, manifest: str, cancel: threading.Event) -> None:
        try:
            with self._watched(build_id, cancel):
                built = self._build(build_id, project_id, manifest, cancel)
        except BuildCancelledError:
            self._finish(build_id, "queued", None)  # the service ends; one that somebody cancelled has ended already
        except (ImagesError, ServiceError) as error:
            self._finish(build_id, "failed", error.message)
        except Exception:  # one build must not end the thread that builds all others
            log.exception("build %s failed unexpectedly", build_id)
            self._finish(
                build_id, "failed", "The build failed unexpectedly. An admin finds the cause in the service's log."
            )
        else:
            reach("build.sealed")
            self._succeed(build_id, project_id, built)

    @contextmanager
    def _watched(self, build_id: str, cancel: threading.Event) -> Iterator[None]:
        """Meanwhile the build is cancelled once its row says that it has ended: whoever cancels it may ask another service."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(LOOK_S):
                try:
                    with self._context.database.read() as session:
                        ended = session.scalar(select(BuildRow.state).where(BuildRow.id == build_id)) != "building"
                except Exception:  # the store may be away for a moment
                    log.exception("the builder could not look whether build %s goes on", build_id)
                    continue
                if ended:
                    cancel.set()
                    return

        watcher = threading.Thread(target=look, name="builder-watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            seen = self._context.wakeup.changes
            if not self._context.leadership.acts():
                self._context.wakeup.wait(seen, PAUSE_S)
                continue
            try:
                self._recover_once()
                if self.run_once():
                    continue
                self._keep_up()
            except Exception:  # the store may be away for a moment
                log.exception("the builder could not look for builds, or say how one ended")
                with self._turn:
                    if self._recovered_in == self._context.leadership.number:
                        # What it had claimed may be `building` still, and nobody builds it.
                        self._recovered_in, self._reason = None, UNRECORDED
            self._context.wakeup.wait(seen, PAUSE_S)

    def _recover_once(self) -> None:
        """In each term of ours, and again when we lost track of a build."""
        with self._turn:
            number = self._context.leadership.number
            if self._recovered_in != number:
                self.recover(self._reason)
                self._recovered_in, self._reason = number, DIED

    def _keep_up(self) -> None:
        with self._turn:
            if time.monotonic() < self._upkeep_at:
                return
            self._upkeep_at = math.inf  # until this thread is done
        try:
            with self._turn:
                # What a build could not remove at its end, as when the API server did not answer.
                self._platform.sweep(list(self._running), self._stopping)
            self._platform.upkeep(self._stopping)
        finally:
            self._upkeep_at = time.monotonic() + self._upkeep_s

    def _claim(self) -> tuple[str, str, str] | None:
        with self._context.database.begin() as session:
            turn = builds.next_in_turn(session)
            row = None if turn is None else session.get(BuildRow, turn, with_for_update={"skip_locked": True})
            if row is None or row.state != "queued":
                return None
            row.state, row.started_at = "building", self._context.clock()
            return row.id, row.project_id, row.manifest

    def _build(self, build_id: str, project_id: str, text: str, cancel: threading.Event) -> Built:
        settings = self._context.settings
        path = builds.log_path(settings, build_id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = threading.Lock()  # lines come from more than one thread
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:

            def write(line: str) -> None:
                with lock:
                    file.write(f"{line}\n".encode())
                    file.flush()

            try:
                manifest = manifests.accept(settings, text)
                return self._platform.build(build_id, project_id, manifest, write, cancel)
            except (ImagesError, ServiceError) as error:
                write(error.message)
                raise

    def _finish(self, build_id: str, state: str, error: str | None) -> None:
        with self._context.database.begin() as session:
            row = session.get_one(BuildRow, build_id, with_for_update=True)
            if row.state != "building":
                return  # it was ended in its place while this process was away
            row.state, row.error = state, None if error is None else storable(error)
            row.ended_at = None if state == "queued" else self._context.clock()

    def _succeed(self, build_id: str, project_id: str, built: Built) -> None:
        record = built.record
        with self._context.database.begin() as session:
            known = session.get(EnvironmentRow, record.digest)
            if known is None:
                known = EnvironmentRow(
                    digest=record.digest, python=record.python, packages=record.packages, lock=record.lock,
                    created_at=datetime.fromisoformat(record.created_at),
                )  # fmt: skip
                session.add(known)
            if built.image is not None:
                known.image, known.base = built.image, built.base
            row = session.get_one(BuildRow, build_id, with_for_update=True)
            if row.state != "building":
                return
            row.state, row.digest, row.ended_at = "succeeded", record.digest, self._context.clock()
            session.get_one(ProjectRow, project_id).environment = record.digest
        reach("build.recorded")


def _platform_of(context: Context) -> BuildPlatform:
    """The one place where it is chosen."""
    if context.settings.platform == "kubernetes":
        from moorage_service.projects.platforms.pods import PodBuilds  # one machine loads no client of a cluster

        return PodBuilds(context)
    return LocalBuilds(context.settings)
