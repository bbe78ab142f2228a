"""How this installation is, in words: its parts, its loops, its disks, and what an admin should see to."""

import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator

import httpx
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from moorage.origins import is_loopback
from moorage.wire import Disk, Health, Loop, Part
from moorage_service import __version__
from moorage_service.clock import to_text
from moorage_service.context import Context
from moorage_service.errors import Unavailable
from moorage_service.store.tables import BuildRow, QuarantineRow
from moorage_service.watch.heartbeats import Beat

ASK_S = 3.0  # a page waits for this
LOW = 0.1  # of a disk
_FOLDERS = ("database", "homes", "environments", "outputs", "scratch")


def health(context: Context) -> Health:
    """Asks the hub and the proxy, so call it outside of any transaction; takes at most some seconds."""
    beats = context.heartbeats.all()
    parts = [_service(), _database(context), _hub(context), *_proxy(context), _builder(context)]
    disks = list(_disks(context))
    return Health(
        started_at=to_text(context.started_at),
        parts=parts,
        loops=[Loop(name=beat.loop, age_s=beat.age_s, every_s=beat.every_s, late=beat.late) for beat in beats],
        disks=disks,
        warnings=[*_warnings(context, parts, beats, disks)],
    )


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


def _proxy(context: Context) -> Iterator[Part]:
    """Only one on this machine: what stands in front of it may be out of our reach."""
    url = httpx.URL(context.settings.public_url)
    if not is_loopback(url.host):
        return
    here = url.copy_with(host="127.0.0.1" if url.host == "localhost" else url.host, raw_path=b"/hub/health")
    begun = time.perf_counter()
    try:
        answer = httpx.get(here, headers={"Host": url.netloc.decode()}, timeout=ASK_S, trust_env=False)
    except httpx.HTTPError as error:
        yield Part(name="proxy", ok=False, says=f"It does not lead to the hub: {type(error).__name__}")
        return
    took = (time.perf_counter() - begun) * 1000
    says = f"leads to the hub in {took:.0f} ms" if answer.is_success else f"answers {answer.status_code} for the hub"
    yield Part(name="proxy", ok=answer.is_success, says=says)


def _builder(context: Context) -> Part:
    if shutil.which(context.settings.uv) is None:
        says = f"The program {context.settings.uv!r} is not there: no environment can be built. Set `uv`, or run `make up`."
        return Part(name="builder", ok=False, says=says)
    with context.database.read() as session:
        states = list(session.scalars(select(BuildRow.state).where(BuildRow.state.in_(("queued", "building")))))
    waiting, running = states.count("queued"), states.count("building")
    return Part(name="builder", ok=True, says=f"{running} running, {waiting} waiting" if waiting or running else "idle")


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
    return [*_late(context.heartbeats.all()), *_full(_disks(context)), *_set_aside(context)]


def _warnings(context: Context, parts: list[Part], beats: list[Beat], disks: list[Disk]) -> Iterator[str]:
    """Troubles first, then advice."""
    for part in parts:
        if not part.ok:
            yield f"The {part.name} is in trouble: {part.says.rstrip('.')}."
    yield from _late(beats)
    yield from _full(disks)
    yield from _set_aside(context)
    if context.no_wall is not None:
        yield context.no_wall
    if (advisory := context.advisory) is not None:
        yield advisory
    if os.geteuid() == 0 and context.settings.origins == "one":
        yield (
            "All users' notebooks share one origin with the portal, so a page of one user's notebook can act as whoever opens it. "
            "Give `public_url` a name with wildcard DNS and set `origins: per-user`."
        )


def _late(beats: Iterable[Beat]) -> Iterator[str]:
    for beat in beats:
        if beat.late:
            yield (
                f"The loop that should {beat.loop} has made no whole pass for {beat.age_s:.0f} s. service.log says why; "
                "a restart of Moorage harms nothing that runs."
            )


def _full(disks: Iterable[Disk]) -> Iterator[str]:
    for disk in disks:
        if disk.free < LOW * disk.total:
            yield f"The disk of {disk.path} has {100 * disk.free / disk.total:.0f} % left. Make room before builds and runs fail."


def _set_aside(context: Context) -> Iterator[str]:
    with context.database.read() as session:
        aside = session.scalar(select(func.count()).select_from(QuarantineRow)) or 0
    if aside:
        yield (
            f"{aside} record{'' if aside == 1 else 's'} could not be read and {'is' if aside == 1 else 'are'} set aside. "
            "`moorage admin check` names them."
        )
