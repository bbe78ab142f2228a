"""What a runner could not send, because the service was away when it ended: read from its scratch folder.

That folder belongs to the run's user. So nothing in it is followed: each step opens below the one before, refuses links, and
takes only plain files of that user with one name, within the bounds of an upload.
"""

import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from moorage.wire import codec
from moorage.wire.jobs import RunProgress
from moorage_jobs.run_order import PROGRESS_FILE
from moorage_service.errors import TooLarge
from moorage_service.jobs import launch, outputs
from moorage_service.settings import Settings

log = logging.getLogger(__name__)
_MOST_PROGRESS = 8 << 20
_PIECE = 1 << 20


def outputs_of(settings: Settings, run_id: str) -> None:
    """Keeps each output that is another in the scratch folder than here. No folder, or an odd one: nothing.

    Raises OSError when our disk does not take it. The runner writes there before it sends, and leaves no older file there:
    so what lies there is the last, whatever times the files have by a clock that was set meanwhile.
    """
    for name in outputs.KINDS:
        with _opened(settings, run_id, name) as file:
            if file is None or _same(file, outputs.folder(settings, run_id) / name):
                continue
            upload = outputs.Upload(settings, run_id, name)
            try:
                while piece := file.read(_PIECE):
                    upload.write(piece)
                upload.finish()
            except TooLarge as error:
                log.info("an output of run %s is not kept: %s", run_id, error)
            finally:
                upload.abandon()


def progress_of(settings: Settings, run_id: str) -> RunProgress | None:
    """The runner's last report, as it left it behind."""
    with _opened(settings, run_id, PROGRESS_FILE) as file:
        if file is None:
            return None
        try:
            return codec.parse(RunProgress, json.loads(file.read(_MOST_PROGRESS)))
        except (ValueError, RecursionError):
            return None


def _same(file: BinaryIO, kept: Path) -> bool:
    """Whether what is kept has this content. Leaves the file at its beginning."""
    try:
        with kept.open("rb") as other:
            same = os.fstat(file.fileno()).st_size == os.fstat(other.fileno()).st_size
            while same and (piece := other.read(_PIECE)):
                same = piece == file.read(_PIECE)
    except FileNotFoundError:
        return False
    file.seek(0)
    return same


@contextmanager
def _opened(settings: Settings, run_id: str, name: str) -> Iterator[BinaryIO | None]:
    folders: list[int] = []
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        folders.append(os.open(launch.scratch(settings, run_id), flags | os.O_DIRECTORY))
        folders.append(os.open(launch.OUTPUTS, flags | os.O_DIRECTORY, dir_fd=folders[0]))
        owner = os.fstat(folders[0]).st_uid
        file = open(os.open(name, flags | os.O_NONBLOCK, dir_fd=folders[1]), "rb")  # noqa: SIM115 - closed below
    except OSError:
        yield None
        return
    finally:
        for folder in folders:
            os.close(folder)
    with file:
        seen = os.fstat(file.fileno())
        yield file if stat.S_ISREG(seen.st_mode) and seen.st_uid == owner and seen.st_nlink == 1 else None
