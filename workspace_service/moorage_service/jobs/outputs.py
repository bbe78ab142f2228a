"""What a run leaves: three files with fixed names in a folder of its own, which only the service can read."""

import os
import secrets
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from moorage_service.errors import NotFound, TooLarge
from moorage_service.settings import Settings

# Name -> media type and the most bytes that are kept. The runner keeps below these by itself.
KINDS = {
    "notebook.ipynb": ("application/x-ipynb+json", 150 * 2**20),
    "notebook.html": ("text/html; charset=utf-8", 200 * 2**20),
    "run.log": ("text/plain; charset=utf-8", 60 * 2**20),
}

PAGES = frozenset({"notebook.html"})  # what a browser renders

# A rendered notebook holds whatever its cells wrote, scripts included. In a sandbox without an origin it can neither
# read cookies nor call the service as the one who looks at it; and it can reach no other address.
CONTENT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; "
    "script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: blob:; font-src data:; worker-src blob:; "
    "form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}


def folder(settings: Settings, run_id: str) -> Path:
    return settings.state / "outputs" / run_id


def check_name(name: str) -> str:
    if name not in KINDS:
        raise NotFound(f"A run has no output {name!r}. It may have: {', '.join(KINDS)}.", field="name")
    return name


def names(settings: Settings, run_id: str) -> list[str]:
    """Which outputs there are now."""
    below = folder(settings, run_id)
    return [name for name in KINDS if (below / name).is_file()]


def find(settings: Settings, run_id: str, name: str) -> Path:
    path = folder(settings, run_id) / check_name(name)
    if not path.is_file():
        raise NotFound(f"The run has no {name} yet. It comes when the run has something to show.", field="name")
    return path


class Upload:
    """An output that arrives in pieces. It replaces the earlier one when it is whole; until then that one is shown."""

    def __init__(self, settings: Settings, run_id: str, name: str) -> None:
        self._name = check_name(name)
        self._left = KINDS[name][1]
        below = folder(settings, run_id)
        below.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._target = below / name
        self._part = below / f".{name}.{secrets.token_hex(4)}"
        self._file = open(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")  # noqa: SIM115

    def write(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise TooLarge(f"{self._name} is larger than {KINDS[self._name][1]} bytes, so it is not kept.")
        self._file.write(piece)

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self._target)

    def abandon(self) -> None:
        """Forgets what arrived. After `finish`: nothing."""
        try:
            self._file.close()
        finally:  # on a full disk closing fails, too: what it holds back can't be written
            self._part.unlink(missing_ok=True)


class WholeFile(FileResponse):
    """A file, never a part of it: a range that can't be read would be refused in another format than ours."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Accept-Ranges"] = "none"
        asked = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": asked}, receive, send)


def answer(path: Path, *, framed_by: str = "'self'", download: bool = False) -> WholeFile:
    """An output for a reader: in its sandbox, to be framed by `framed_by` alone; or, as a `download`, to be kept."""
    policy = CONTENT_POLICY.replace("frame-ancestors 'self'", f"frame-ancestors {framed_by}")
    headers = {**HEADERS, "Content-Security-Policy": policy}
    return WholeFile(path, media_type=KINDS[path.name][0], headers=headers, filename=path.name if download else None)


def remove_parts(settings: Settings, run_id: str) -> None:
    """Removes what uploads left that were cut short by the end of the service itself."""
    for part in folder(settings, run_id).glob(".*"):
        part.unlink(missing_ok=True)


def keep_log(settings: Settings, run_id: str, log: Path) -> None:
    """Keeps a runner's own log where the runner could not send it. The runner masked it as it wrote."""
    below = folder(settings, run_id)
    if (below / "run.log").exists() or not log.is_file():
        return
    upload = Upload(settings, run_id, "run.log")
    try:
        with log.open("rb") as source:
            left = KINDS["run.log"][1]
            while left > 0 and (piece := source.read(min(left, 1 << 20))):
                upload.write(piece)
                left -= len(piece)
        upload.finish()
    finally:
        upload.abandon()


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, offset: int, most: int = 4 << 20) -> bytes:
    """At most `most` bytes from `offset` on; nothing where the file or that part of it is not there yet."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(most)
    except FileNotFoundError:
        return b""
