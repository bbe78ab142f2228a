"""The thread that builds environments, one at a time, and makes a finished one the project's current one."""

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import select, update

from moorage import folders
from moorage_images import build as images
from moorage_images import environments, interpreters, wheel
from moorage_images import plan as plans
from moorage_images.bounds import Bounds
from moorage_images.environments import EnvironmentRecord
from moorage_images.errors import BuildCancelledError, BuildError, ImagesError
from moorage_images.network import network_environment
from moorage_service.context import Context
from moorage_service.errors import ServiceError
from moorage_service.projects import builds, manifests
from moorage_service.settings import Settings
from moorage_service.store.tables import BuildRow, EnvironmentRow, ProjectRow
from moorage_service.store.text import storable
from moorage_spawners.launch.crash_points import reach

log = logging.getLogger(__name__)

IDENTITIES = 100  # throwaway uids, from `builder_uid_first` on
LOOK_S = 0.5  # between two looks whether the build that runs goes on
DIED = "The service ended while it built this environment. Build again."
UNRECORDED = "The database failed while this environment was built, so that its end could not be recorded. Build again."
PAUSE_S = 5.0  # between two looks at the store, when nobody wakes us


class Builder:
    """Claims queued builds, one user's after another's. `start` and `stop` it once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._cancel = threading.Event()  # of the build that runs
        self._thread = threading.Thread(target=self._loop, name="builder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """A build that runs goes back into the queue, for the next start of the service."""
        self._stopping.set()
        self._cancel.set()
        self._context.wakeup.notify()
        self._thread.join(timeout=30)

    def recover(self, reason: str = DIED) -> None:
        """While this builder builds nothing: what a dead service, or a store that was away, left. One that ran is failed with `reason`,
        for it may be what killed the service. Raises OutdatedError when it is another process's to do.
        """
        with self._context.database.begin() as session:
            self._context.leadership.require()
            session.execute(
                update(BuildRow)
                .where(BuildRow.state == "building")
                .values(state="failed", ended_at=self._context.clock(), error=reason)
            )
        settings = self._context.settings
        # Also an older term's builder, which was paused and goes on, must not lose its tree while it works.
        with suppress(BuildCancelledError), images.no_build(settings.environments, cancel=self._stopping):
            environments.sweep(settings.environments)
            for folder in (settings.state / "scratch").glob("build-*"):
                if not folders.remove(folder, ignore_errors=True):
                    log.warning("what a build left can't be removed: %s", folder)

    def run_once(self) -> bool:
        """Builds the oldest queued build, if there is one."""
        claimed = self._claim()
        if claimed is None:
            return False
        build_id, project_id, manifest = claimed
        reach("build.claimed")
        self._cancel.clear()
        if self._stopping.is_set():
            self._cancel.set()
        try:
            with self._watched(build_id):
                record = self._build(build_id, project_id, manifest, self._cancel)
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
            self._succeed(build_id, project_id, record)
        self._context.wakeup.notify()
        return True

    @contextmanager
    def _watched(self, build_id: str) -> Iterator[None]:
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
                    self._cancel.set()
                    return

        watcher = threading.Thread(target=look, name="builder-watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _loop(self) -> None:
        recovered_in: int | None = None  # which term of this process
        reason = DIED
        while not self._stopping.is_set():
            seen = self._context.wakeup.changes
            if not self._context.leadership.held():
                self._context.wakeup.wait(seen, PAUSE_S)
                continue
            try:
                if recovered_in != (number := self._context.leadership.number):
                    self.recover(reason)
                    recovered_in, reason = number, DIED
                if self.run_once():
                    continue
            except Exception:  # the store may be away for a moment
                log.exception("the builder could not look for builds, or say how one ended")
                if recovered_in == self._context.leadership.number:
                    # What it had claimed may be `building` still, and nobody builds it: this thread is its term's only builder.
                    recovered_in, reason = None, UNRECORDED
            self._context.wakeup.wait(seen, PAUSE_S)

    def _claim(self) -> tuple[str, str, str] | None:
        with self._context.database.begin() as session:
            turn = builds.next_in_turn(session)
            row = None if turn is None else session.get(BuildRow, turn, with_for_update={"skip_locked": True})
            if row is None or row.state != "queued":
                return None
            row.state, row.started_at = "building", self._context.clock()
            return row.id, row.project_id, row.manifest

    def _build(self, build_id: str, project_id: str, text: str, cancel: threading.Event) -> EnvironmentRecord:
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
                manifest = manifests.check(settings, text)
                pythons = manifests.pythons(settings)
                interpreter = interpreters.inspect(pythons[manifest.python])
                plan = plans.plan(manifest, {manifest.python: interpreter}, wheel.read(_client_wheel(settings)))
                return images.build(plan, project_id, places(settings), log=write, cancel=cancel)
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

    def _succeed(self, build_id: str, project_id: str, record: EnvironmentRecord) -> None:
        with self._context.database.begin() as session:
            if session.get(EnvironmentRow, record.digest) is None:
                session.add(
                    EnvironmentRow(
                        digest=record.digest, python=record.python, packages=record.packages, lock=record.lock,
                        created_at=datetime.fromisoformat(record.created_at),
                    )
                )  # fmt: skip
            row = session.get_one(BuildRow, build_id, with_for_update=True)
            if row.state != "building":
                return
            row.state, row.digest, row.ended_at = "succeeded", record.digest, self._context.clock()
            session.get_one(ProjectRow, project_id).environment = record.digest
        reach("build.recorded")


def places(settings: Settings) -> images.BuildPlaces:
    """Raises BuildError when there is no uv."""
    uv = shutil.which(settings.uv)
    if uv is None:
        raise BuildError(
            f"The program {settings.uv!r} is not there. An admin sets `uv` in settings.yaml, or runs `make up`."
        )
    first = settings.builder_uid_first
    return images.BuildPlaces(
        environments=settings.environments,
        cache=settings.state / "build-cache",
        scratch=settings.state / "scratch",
        uv=Path(uv).resolve(),
        accounts=range(first, first + IDENTITIES) if os.geteuid() == 0 else None,
        network=network_environment(os.environ),
        bounds=Bounds(
            memory=settings.build_memory,
            processes=settings.build_processes,
            free_disk=settings.free_disk,
            time_s=settings.build_timeout_s,
        ),
    )


def _client_wheel(settings: Settings) -> Path:
    if settings.client_wheel is None:
        raise BuildError(
            "The client's wheel is not known. An admin sets `client_wheel` in settings.yaml, or runs `make up`."
        )
    return settings.client_wheel
