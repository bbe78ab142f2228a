"""A project's files: a bounded archive of plain files, normalised, kept by the digest of its content."""

import hashlib
import io
import os
import secrets
import tarfile
from pathlib import Path, PurePosixPath

from moorage_service.errors import BadRequest, TooLarge
from moorage_service.projects import plain_tar
from moorage_service.settings import Settings
from moorage_service.store.tables import ProjectRow

MANIFEST = "moorage.yaml"
LARGEST_UPLOAD = 64 << 20  # bytes, as sent
MOST_FILES = 2000
Files = dict[str, bytes]  # path below the project -> content


def unpack(archive: bytes) -> Files:
    """Plain files only. Raises BadRequest naming the first member that can't be accepted, TooLarge for too much."""
    files: Files = {}
    try:
        for member, content in plain_tar.members(archive):
            if member.isdir():
                continue
            path = _safe(member)
            if len(files) >= MOST_FILES:
                raise TooLarge(f"The files are more than {MOST_FILES}. Keep data outside of the project's files.")
            files[path] = content
    except (tarfile.TarError, ValueError) as error:
        why = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise BadRequest(
            f"files: this is not a tar archive ({why}). Make one with `tar -c`, and leave it uncompressed.",
            field="files",
        ) from error
    return files


def _safe(member: tarfile.TarInfo) -> str:
    shown = member.name[:200]
    if not member.isfile():
        raise BadRequest(
            f"files: {shown!r} is a link or a device. Only plain files are kept: leave it out.", field="files"
        )
    parts = PurePosixPath(member.name).parts
    if (
        not parts
        or member.name.startswith("/")
        or ".." in parts
        or not member.name.isprintable()
        or len(member.name) > 400
    ):
        raise BadRequest(
            f"files: the path {shown!r} can't be kept. Use paths below the project, without '..'.", field="files"
        )
    return str(PurePosixPath(*parts))


def pack(files: Files) -> bytes:
    """The same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(files):
            member = tarfile.TarInfo(path)
            member.size = len(files[path])
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(files[path]))
    return buffer.getvalue()


def path_of(settings: Settings, digest: str) -> Path:
    return settings.state / "snapshots" / "projects" / f"{digest}.tar"


def keep(settings: Settings, files: Files) -> str:
    """Writes the archive, if it is new, and returns its digest."""
    content = pack(files)
    digest = hashlib.sha256(content).hexdigest()
    path = path_of(settings, digest)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        fresh.rename(path)
    return digest


def read(settings: Settings, digest: str | None) -> Files:
    """The files of a kept archive; none for None."""
    return {} if digest is None else unpack(path_of(settings, digest).read_bytes())


def archive_of(settings: Settings, project: ProjectRow) -> Path | None:
    """The tar that holds a project's files now; None when it has none."""
    return None if project.files is None else path_of(settings, project.files)
