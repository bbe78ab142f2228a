"""A copy put back: verified whole before anything changes; what is there is moved aside, never deleted.

What is named by content or by run, and what belongs to users, is only added to: what runs may be newer than the copy, and needs it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from moorage.folders import remove
from moorage_service.recovery.backup import client_environment
from moorage_service.recovery.contents import (
    DUMP,
    FOLDERS,
    HUB_DATABASE,
    MANIFEST,
    PIECE,
    SERVICE_DATABASE,
    SETTINGS,
    CopyError,
    Manifest,
)
from moorage_service.recovery.settle import Restored, mark_of
from moorage_service.settings import SettingsError, load
from moorage_service.store import migrations
from moorage_spawners.launch import marks
from moorage_spawners.shim import tree

ADDED_TO = {"snapshots": None, "outputs": 1, "homes": 1, "environments": 1}  # None: file by file; 1: folder by folder


@dataclass
class Outcome:
    """What was done. `aside`: where that which was there lies now, None when there was nothing."""

    manifest: Manifest
    aside: Path | None = None
    left: list[str] = field(default_factory=list)  # sentences


def put_back(state: Path, copy: Path) -> Outcome:
    """Puts the copy back into the state folder. Raises CopyError: Moorage runs, the copy is damaged or of a newer version."""
    with _stopped(state):
        manifest = read_manifest(copy)
        _refuse_newer(manifest)
        now = datetime.now(UTC)
        fresh = state / f"restoring-{now:%Y-%m-%d-%H%M%S}"
        fresh.mkdir(mode=0o700)
        try:
            _unpack(copy, manifest, fresh)
            aside = state / f"before-restore-{now:%Y-%m-%d-%H%M%S}"
            outcome = _swap(state, fresh, aside, manifest)
            Restored(datetime.fromisoformat(manifest.made_at), now).write(mark_of(state))
        except (tarfile.TarError, OSError) as error:
            raise CopyError(f"The copy could not be put back: {error}. Make room, and put it back again.") from error
        finally:
            remove(fresh, ignore_errors=True)
    return outcome


class _Copy(tarfile.TarFile):
    def next(self) -> tarfile.TarInfo | None:
        entry = super().next()
        if entry is not None and entry.size < 0:  # it leads back, and so on for ever
            raise tarfile.ReadError("a size below zero")
        return entry


@contextmanager
def _stopped(state: Path) -> Iterator[None]:
    """Holds the lock of `up`, so that nothing starts meanwhile."""
    folder = state / "database"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CopyError(
                f"Moorage runs on {state}. Stop service, hub and proxy first (Ctrl-C where `make up` runs); "
                "notebooks, clusters and runs may go on."
            ) from None
        _refuse_running(state)
        yield
    finally:
        os.close(descriptor)


def _refuse_running(state: Path) -> None:
    """Service, hub and proxy outlive a supervisor that was killed, and the lock that it held: they have the databases open."""
    named = {pid: name for name, pid in marks.living(state).items()}
    living = sorted((named.keys() | tree.marked(marks.mark_of(state), None)) - {os.getpid()})
    if living:
        listed = ", ".join(f"{pid} ({named[pid]})" if pid in named else str(pid) for pid in living)
        raise CopyError(
            f"Of Moorage on {state} there still run the processes {listed}, although `make up` does not. Stop them: with `make up` and "
            "then Ctrl-C, which leaves notebooks, clusters and runs alone, or with `make down`, which ends these too. Nothing was changed."
        )


def read_manifest(copy: Path) -> Manifest:
    """Raises CopyError for a file that is no whole copy."""
    try:
        with _Copy.open(copy) as tar:
            found = tar.extractfile(MANIFEST)
            assert found is not None
            return Manifest.from_json(found.read())
    except FileNotFoundError:
        raise CopyError(f"There is no file {copy}.") from None
    except (tarfile.TarError, KeyError, OSError, EOFError, AssertionError) as error:
        raise CopyError(f"{copy} is no whole copy of Moorage ({error}). Nothing was changed.") from error


def _refuse_newer(manifest: Manifest) -> None:
    if manifest.schema not in migrations.known():
        raise CopyError(
            f"The copy was made by Moorage {manifest.version}, whose database ({manifest.schema!r}) is newer than this program knows "
            f"({migrations.head()!r}). Put it back with that version. Nothing was changed."
        )


def _unpack(copy: Path, manifest: Manifest, fresh: Path) -> None:
    """Into a folder that only we can enter, each file against its digest. Nothing is ever written through a link."""
    left = dict(manifest.members)
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    with _Copy.open(copy) as tar:
        for entry in tar:
            if entry.name == MANIFEST:
                continue
            _refuse_outside(entry.name)
            target = fresh / entry.name
            for parent in target.relative_to(fresh).parents:
                if (fresh / parent).is_symlink():
                    raise CopyError(f"The copy leads {entry.name!r} through a link. Nothing was changed.")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if entry.isdir():
                target.mkdir(mode=0o700, exist_ok=True)
                folders.append((target, entry))
            elif entry.issym():
                target.symlink_to(entry.linkname)
                _give(target, entry)
            elif entry.isreg():
                _write_file(tar, entry, target, left.pop(entry.name, None))
    for folder, entry in reversed(folders):  # last: a sealed one takes nothing more
        _give(folder, entry)
        folder.chmod(entry.mode & 0o7777)
    if left:
        raise CopyError(f"The copy lacks {next(iter(left))}. It is damaged; nothing was changed.")


def _give(path: Path, entry: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)


def _refuse_outside(name: str) -> None:
    parts = Path(name).parts
    known = {*FOLDERS, "database", *SETTINGS}
    if not parts or parts[0] not in known or ".." in parts or Path(name).is_absolute():
        raise CopyError(f"The copy holds {name!r}, which is no part of Moorage. Nothing was changed.")


def _write_file(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, expected: list[object] | None) -> None:
    source, digest = tar.extractfile(entry), hashlib.sha256()
    assert source is not None
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        while piece := source.read(PIECE):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    _give(target, entry)
    target.chmod(entry.mode & 0o7777)
    if [entry.size, digest.hexdigest()] != expected:
        raise CopyError(
            f"{entry.name} in the copy is not what it was when the copy was made. Use another copy; nothing was changed."
        )


def _swap(state: Path, fresh: Path, aside: Path, manifest: Manifest) -> Outcome:
    outcome = Outcome(manifest)

    def replace(name: str) -> None:
        _move_aside(state / name, aside / name)
        if (fresh / name).exists():
            (state / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.rename(fresh / name, state / name)

    for name in (*SETTINGS, "secrets"):
        if (fresh / name).exists():
            replace(name)
    for part in manifest.parts:
        if part in ADDED_TO:
            _add(fresh / part, state / part, part, outcome)
    for name in (HUB_DATABASE, SERVICE_DATABASE):
        if name in manifest.members:
            for suffix in ("-wal", "-shm", "-journal"):
                _move_aside(state / f"{name}{suffix}", aside / f"{name}{suffix}")
            replace(name)
    if DUMP in manifest.members:
        outcome.left.append(_load_dump(state, fresh / DUMP, aside.name))
    outcome.aside = aside if aside.exists() else None
    return outcome


def _move_aside(path: Path, to: Path) -> None:
    if path.exists() or path.is_symlink():
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(path, to)


def _add(fresh: Path, present: Path, part: str, outcome: Outcome) -> None:
    """Moves in what is not there. What is there stays: it is the same, or newer, or somebody's own."""
    if not fresh.exists():
        return
    if not present.exists():
        present.mkdir(mode=0o755 if part in ("homes", "environments") else 0o700)
    kept = 0
    for entry in sorted(fresh.iterdir()):
        target = present / entry.name
        if not (target.exists() or target.is_symlink()):
            os.rename(entry, target)
        elif ADDED_TO[part] is None and entry.is_dir():
            _add(entry, target, part, outcome)
        else:
            kept += 1
    if kept and ADDED_TO[part] is not None:
        outcome.left.append(f"{kept} of {part} were there already and stay as they are.")


def _load_dump(state: Path, dump: Path, name: str) -> str:
    """Into PostgreSQL: the tables that are there are kept in a schema of their own."""
    program = shutil.which("pg_restore")
    if program is None:
        raise CopyError(
            "The copy is PostgreSQL's, and pg_restore is not on PATH. Install PostgreSQL's client programs."
        )
    try:
        url = make_url(load(state=state).sqlalchemy_url)
        old = name.replace("-", "_")
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(f'ALTER SCHEMA public RENAME TO "{old}"'))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        subprocess.run(
            [program, "--no-owner", "--exit-on-error", f"--dbname={url.database}", str(dump)],
            env=client_environment(url), check=True, stderr=subprocess.PIPE,
        )  # fmt: skip
    except (SettingsError, SQLAlchemyError) as error:
        raise CopyError(f"The database could not be made ready: {error}. The dump is in the copy: {DUMP}.") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        raise CopyError(f"pg_restore failed: {said}. The tables that were there are in the schema {old!r}.") from error
    return f"The tables that were there lie in the schema {old!r} of the same database."
