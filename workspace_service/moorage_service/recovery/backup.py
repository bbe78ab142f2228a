"""A copy of an installation in one file, made while it runs: the databases first, then the files that they name.

What a database names is written before it is named, so a copy of the database finds all of it. The file appears whole or not at all.
"""

import errno
import io
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL

from moorage import folders
from moorage_service import __version__
from moorage_service.recovery.contents import (
    DUMP,
    FOLDERS,
    HUB_DATABASE,
    MANIFEST,
    SERVICE_DATABASE,
    SETTINGS,
    CopyError,
    Digesting,
    Manifest,
)
from moorage_service.settings import Settings
from moorage_service.store import migrations
from moorage_service.store.database import Database

BUSY_S = 60.0
LONGEST_NAME = 3000  # bytes of a path in the copy: put back, it lies below a folder, and a path has 4096 at most
# What is said of a file, link or folder that was swapped for something else, or moved, since it was seen; and of one too deep.
_SWAPPED = (errno.ENXIO, errno.ELOOP, errno.ENOTDIR, errno.ENODEV, errno.EINVAL, errno.ESTALE, errno.ENAMETOOLONG)


def make(settings: Settings, target: Path, parts: Sequence[str]) -> tuple[Path, Manifest]:
    """Writes the copy to `target`, or below it if it is a folder; 0600, for it holds every key. `parts`: of `FOLDERS`.

    Raises CopyError: there is such a file already, the disk is full, a database can't be read.
    """
    now = datetime.now(UTC)
    target = target.absolute()
    if target.is_dir():
        target = target / f"moorage-{now:%Y-%m-%d-%H%M%S}.tar"
    if target.exists():
        raise CopyError(f"{target} is there already, and a copy never replaces anything. Name another file.")
    if not target.parent.is_dir():
        raise CopyError(f"There is no folder {target.parent}. Make it, or name another one.")
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        manifest = _write(settings, draft, parts, now)
        try:
            os.link(draft, target)  # unlike a rename, it replaces nothing
        except FileExistsError:
            raise CopyError(f"{target} has appeared meanwhile. Name another file.") from None
        _sync_folder(target.parent)
    except (OSError, sqlite3.Error, subprocess.CalledProcessError) as error:
        raise CopyError(f"The copy could not be written: {_why(error)}. Nothing is left of it.") from error
    finally:
        draft.unlink(missing_ok=True)
    return target, manifest


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or b"").decode(errors="replace").strip() or str(error)
    return str(error)


def _write(settings: Settings, draft: Path, parts: Sequence[str], now: datetime) -> Manifest:
    postgresql = settings.sqlalchemy_url.startswith("postgresql")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            manifest = Manifest(
                version=__version__, schema=_schema(settings), made_at=now.isoformat(), parts=list(parts),
                database="postgresql" if postgresql else "sqlite",
            )  # fmt: skip
            writer = _Writer(tar, manifest)
            with _copies(settings, postgresql) as copies:
                for name, path in copies.items():
                    writer.file(path, name)
            for name in SETTINGS:
                writer.file(settings.state / name, name)
            for part in parts:
                writer.tree(settings.state / part, part)
            content = manifest.to_json()
            entry = tarfile.TarInfo(MANIFEST)
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(now.timestamp())
            tar.addfile(entry, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _schema(settings: Settings) -> str:
    database = Database(settings.sqlalchemy_url)
    try:
        with database.read() as session:
            return migrations.current(session.connection()) or ""
    finally:
        database.close()


@contextmanager
def _copies(settings: Settings, postgresql: bool) -> Iterator[dict[str, Path]]:
    """The databases as they were at one moment each: name in the copy -> file."""
    with tempfile.TemporaryDirectory(prefix=".copy-", dir=settings.state / "database") as folder:
        found = {}
        if postgresql:
            found[DUMP] = Path(folder) / "service.dump"
            _dump(make_url(settings.sqlalchemy_url), found[DUMP])
        else:
            found[SERVICE_DATABASE] = _copy_sqlite(settings.state / SERVICE_DATABASE, Path(folder))
        if (settings.state / HUB_DATABASE).exists():
            found[HUB_DATABASE] = _copy_sqlite(settings.state / HUB_DATABASE, Path(folder))
        yield found


def _copy_sqlite(source: Path, folder: Path) -> Path:
    """By SQLite's own online backup, in one step: nobody's writes wait for it, and it needs none of them to wait."""
    copy = folder / source.name
    reading = sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=BUSY_S)
    try:
        writing = sqlite3.connect(copy)
        try:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode=DELETE")
            (said,) = writing.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            writing.close()
    finally:
        reading.close()
    if said != "ok":
        raise CopyError(f"{source} is damaged: {said}. Put an earlier copy back.")
    return copy


def _dump(url: URL, path: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise CopyError(
            "The database is PostgreSQL's, and pg_dump is not on PATH. Install PostgreSQL's client programs "
            "(on Debian: postgresql-client), of the server's version or newer."
        )
    environment = client_environment(url)
    subprocess.run(
        [program, "--format=custom", "--no-owner", f"--file={path}"],
        env=environment,
        check=True,
        stderr=subprocess.PIPE,
    )


def client_environment(url: URL) -> dict[str, str]:
    """What PostgreSQL's programs connect by. Not as arguments: every account can read those."""
    given = {
        "PGHOST": url.query.get("host") or url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }  # fmt: skip
    return {"PATH": os.defpath, **{name: str(value) for name, value in given.items() if value}}


class _Writer:
    """Adds plain files, folders and links to a tar, with the digest of each file in the manifest."""

    def __init__(self, tar: tarfile.TarFile, manifest: Manifest) -> None:
        self._tar = tar
        self._manifest = manifest

    def file(self, path: Path, name: str, *, folder: int | None = None) -> None:
        """One plain file; `folder`: the descriptor that `path` is relative to. Gone meanwhile, or no plain file: nothing."""
        try:
            if not stat.S_ISREG(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode):
                return  # not even opened: a socket can't be, and a device may act on it
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave_out(name, error)
            return
        with open(descriptor, "rb") as source:
            entry = self._tar.gettarinfo(arcname=name, fileobj=source)
            if entry is None or (not entry.isreg() and entry.type != tarfile.LNKTYPE):
                return
            entry.type, entry.linkname = tarfile.REGTYPE, ""
            entry.size = os.fstat(descriptor).st_size
            content = Digesting(source, entry.size)
            try:
                self._tar.addfile(entry, content)
            except OSError as error:  # it may be half written: this is no file to leave out
                raise CopyError(
                    f"The copy could not be written: {name[:200]}: {error}. Nothing is left of it."
                ) from error
            self._manifest.members[name] = content.entry

    def tree(self, top: Path, name: str) -> None:
        """A folder and all below it. Links are kept as links, whatever they lead to; sockets and pipes are left out.

        Each folder in it is somebody's own, and is looked through by itself: what one of them moves about meanwhile, or nests
        deeper than it could be put back, is left out and named in the manifest, and keeps nothing else.
        """
        if not top.is_dir():
            return
        own: list[str] = []
        for _, inner, others, descriptor in folders.walk(top):
            self._level(Path(name), others, descriptor)
            own = sorted(inner)
            inner.clear()
        for each in own:
            self._own(top / each, f"{name}/{each}")

    def _own(self, top: Path, name: str) -> None:
        try:
            for below, inner, others, descriptor in folders.walk(top, self._missed_in(name)):
                where = Path(name) / below
                self._level(where, others, descriptor)
                for each in [each for each in inner if len(os.fsencode(where / each)) > LONGEST_NAME]:
                    inner.remove(each)
                    self._leave_out(str(where / each), OSError(errno.ENAMETOOLONG, "it lies too deep"))
        except FileNotFoundError:
            return  # removed meanwhile
        except OSError as error:
            self._leave_out(name, error)

    def _missed_in(self, name: str) -> Callable[[str, OSError], None]:
        return lambda below, error: self._leave_out(f"{name}/{below}", error)

    def _level(self, where: Path, others: list[str], descriptor: int) -> None:
        self._entry(".", where, descriptor)
        for each in sorted(others):
            if _is_link(each, descriptor):
                self._entry(each, where / each, descriptor)
            else:
                self.file(Path(each), str(where / each), folder=descriptor)

    def _leave_out(self, name: str, error: OSError) -> None:
        """Raises the error where the copy would be no copy without it. Only in homes there is what we may not read."""
        if error.errno not in _SWAPPED and not (error.errno == errno.EACCES and name.startswith("homes/")):
            raise error
        self._manifest.left_out.append(f"{name[:200]}: {error.strerror}")

    def _entry(self, name: str, where: Path, descriptor: int) -> None:
        """A folder or a link, which have no content."""
        try:
            seen = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            entry = tarfile.TarInfo(str(where))
            entry.mode, entry.uid, entry.gid, entry.mtime = (
                seen.st_mode & 0o7777,
                seen.st_uid,
                seen.st_gid,
                int(seen.st_mtime),
            )
            if name == ".":
                entry.type = tarfile.DIRTYPE
            else:
                entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave_out(str(where), error)
            return
        self._tar.addfile(entry)


def _is_link(name: str, descriptor: int) -> bool:
    try:
        os.readlink(name, dir_fd=descriptor)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parts_of(*, outputs: bool, homes: bool, environments: bool) -> list[str]:
    wanted = {"outputs": outputs, "homes": homes, "environments": environments}
    return [part for part in FOLDERS if wanted.get(part, True)]
