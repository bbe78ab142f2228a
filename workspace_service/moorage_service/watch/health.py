"""How this installation is, in words: its parts, its loops, its disks, and what an admin should see to."""

import platform
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from moorage.wire import Disk, Health, Loop, Part
from moorage_service import __version__
from moorage_service.clock import to_text
from moorage_service.context import Context
from moorage_service.errors import Unavailable
from moorage_service.store.tables import QuarantineRow
from moorage_service.watch import cluster, machine
from moorage_service.watch.heartbeats import Beat

LOW = 0.1  # of a disk
_FOLDERS = ("database", "homes", "environments", "outputs", "scratch")


def health(context: Context) -> Health:
    """Asks the hub and the proxy, so call it outside of any transaction; takes at most some seconds."""
    beats = context.heartbeats.all()
    parts = [_service(), _database(context), _hub(context), *_own(context).parts(context)]
    disks = list(_disks(context))
    return Health(
        started_at=to_text(context.started_at),
        parts=parts,
        loops=[Loop(name=beat.loop, age_s=beat.age_s, every_s=beat.every_s, late=beat.late) for beat in beats],
        disks=disks,
        warnings=[*_warnings(context, parts, beats, disks)],
    )


class _OfAPlatform(Protocol):
    """What one platform alone has to say; and its words for where the log is, and how room is made."""

    @property
    def LOG(self) -> str: ...  # noqa: N802 - a module's constant

    @property
    def ROOM(self) -> str: ...  # noqa: N802

    def parts(self, context: Context) -> Iterator[Part]: ...

    def advice(self, context: Context) -> Iterator[str]: ...


def _own(context: Context) -> _OfAPlatform:
    return machine if context.platform.one_machine else cluster


def _service() -> Part:
    return Part(name="service", ok=True, says=f"Python {platform.python_version()}", version=__version__)


def _database(context: Context) -> Part:
    engine = context.database.engine
    begun = time.perf_counter()
    try:
        with context.database.read() as session:
            version = session.scalar(
                text("SELECT sqlite_version()" if engine.name == "sqlite" else "SHOW server_version")
            )
    except (SQLAlchemyError, sqlite3.Error) as error:
        return Part(name="database", ok=False, says=f"{engine.name} does not answer: {type(error).__name__}")
    took = (time.perf_counter() - begun) * 1000
    return Part(name="database", ok=True, says=f"{engine.name} answers in {took:.0f} ms", version=str(version))


def _hub(context: Context) -> Part:
    begun = time.perf_counter()
    try:
        version = context.hub.version()
    except Unavailable as error:
        return Part(name="hub", ok=False, says=error.message)
    return Part(
        name="hub",
        ok=True,
        says=f"JupyterHub answers in {(time.perf_counter() - begun) * 1000:.0f} ms",
        version=version,
    )


def _disks(context: Context) -> Iterator[Disk]:
    seen: set[int] = set()
    state = context.settings.state
    for folder in (state, *(state / name for name in _FOLDERS)):
        if folder.exists() and folder.stat().st_dev not in seen:
            seen.add(folder.stat().st_dev)
            usage = shutil.disk_usage(folder)
            yield Disk(path=str(folder), free=usage.free, total=usage.total)


def troubles(context: Context) -> list[str]:
    """What must be seen to and can be told without asking another program: loops, disks, records. Cheap enough for every page."""
    return [*_late(context, context.heartbeats.all()), *_full(context, _disks(context)), *_set_aside(context)]


def _warnings(context: Context, parts: list[Part], beats: list[Beat], disks: list[Disk]) -> Iterator[str]:
    """Troubles first, then advice."""
    for part in parts:
        if not part.ok:
            yield f"The {part.name} is in trouble: {part.says.rstrip('.')}."
    yield from _late(context, beats)
    yield from _full(context, disks)
    yield from _set_aside(context)
    yield from _own(context).advice(context)


def _late(context: Context, beats: Iterable[Beat]) -> Iterator[str]:
    for beat in beats:
        if beat.late:
            yield (
                f"The loop that should {beat.loop} has made no whole pass for {beat.age_s:.0f} s. {_own(context).LOG} says why; "
                "a restart of Moorage harms nothing that runs."
            )


def _full(context: Context, disks: Iterable[Disk]) -> Iterator[str]:
    for disk in disks:
        if disk.free < LOW * disk.total:
            yield f"The disk of {disk.path} has {100 * disk.free / disk.total:.0f} % left. {_own(context).ROOM}"


def _set_aside(context: Context) -> Iterator[str]:
    with context.database.read() as session:
        aside = session.scalar(select(func.count()).select_from(QuarantineRow)) or 0
    if aside:
        yield (
            f"{aside} record{'' if aside == 1 else 's'} could not be read and {'is' if aside == 1 else 'are'} set aside. "
            "`moorage admin check` names them."
        )
