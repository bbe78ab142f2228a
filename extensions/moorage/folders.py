"""Folders that users or builds filled: walked and removed whatever lies in them, and however deep.

Python 3.11's shutil.rmtree and os.walk call themselves for each folder below, and so end with a RecursionError at a depth of about a
thousand; and what goes by path ends at the 4096 bytes of one. Here a descriptor goes down and up again. No link is ever followed.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

_HELD = 32  # of the folders above: descriptors are few, and so deep only a hostile tree goes
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descent:
    """A place in a tree of folders: `here` is its descriptor. Use as a context. Raises OSError for what is no folder, as a link."""

    def __init__(self, top: Path) -> None:
        self.here = os.open(top, _OPEN)
        self._held: list[int] = []  # descriptors of the folders above, from the top on
        self._beyond: list[tuple[int, int]] = []  # which folders they are that follow, down to the one above `here`

    def __enter__(self) -> "Descent":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for descriptor in (*self._held, self.here):
            os.close(descriptor)

    def down(self, name: str) -> None:
        """Into a folder that lies here. Raises OSError, and stays, when it is gone, or something else by now."""
        below = os.open(name, _OPEN, dir_fd=self.here)
        if len(self._held) < _HELD:
            self._held.append(self.here)
        else:
            self._beyond.append(_identity(self.here))
            os.close(self.here)
        self.here = below

    def up(self) -> None:
        """Back. Raises OSError when, deep down, the folder was moved or removed meanwhile: where it lies now is not ours to see."""
        if not self._beyond:
            os.close(self.here)
            self.here = self._held.pop()
            return
        try:
            above = os.open("..", _OPEN, dir_fd=self.here)
        except FileNotFoundError as error:
            raise OSError(errno.ESTALE, "a folder was removed while it was looked through") from error
        os.close(self.here)
        self.here = above
        if _identity(above) != self._beyond.pop():
            raise OSError(errno.ESTALE, "a folder was moved while it was looked through")

    def entries(self) -> tuple[list[str], list[str]]:
        """The names of the folders that lie here, and of everything else, links among it."""
        folders: list[str] = []
        others: list[str] = []
        with os.scandir(self.here) as found:
            for entry in found:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        return folders, others


def _identity(descriptor: int) -> tuple[int, int]:
    seen = os.fstat(descriptor)
    return seen.st_dev, seen.st_ino


def walk(
    top: Path, missed: Callable[[str, OSError], None] | None = None
) -> Iterator[tuple[str, list[str], list[str], int]]:
    """Like os.fwalk from the top down: (path below `top`, "" for itself; names of folders; other names, links among them; descriptor).

    A folder whose name is taken out of the list is not entered; one that is gone when its turn comes is left out. The descriptor is
    good until the next step. A folder below that can't be entered is `missed`, else OSError is raised; so it is when the way back is
    lost because a folder deep down was moved meanwhile.
    """
    with Descent(top) as place:
        paths, waiting = [""], [_step(place)]
        yield "", *waiting[0], place.here
        while waiting:
            folders = waiting[-1][0]
            if not folders:
                waiting.pop()
                paths.pop()
                if waiting:
                    place.up()
                continue
            name = folders.pop()
            path = f"{paths[-1]}/{name}" if paths[-1] else name
            try:
                place.down(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                if missed is None:
                    raise
                missed(path, error)
                continue
            paths.append(path)
            waiting.append(_step(place))
            yield path, *waiting[-1], place.here


def _step(place: Descent) -> tuple[list[str], list[str]]:
    folders, others = place.entries()
    return sorted(folders, reverse=True), sorted(others)


def remove(top: Path, *, ignore_errors: bool = False) -> bool:
    """Removes a folder and all below it, what nobody may write to included; a link goes, not what it leads to. Nothing there: nothing.

    Whether nothing is there any more. What can't be removed does not keep the rest; then the first OSError is raised, unless
    `ignore_errors`.
    """
    kept: list[OSError] = []
    try:
        _open_up(top, None)
        with Descent(top) as place:
            _empty(place, kept)
        os.rmdir(top)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return _unlink(top, ignore_errors=ignore_errors)
        kept.append(error)
    if kept and not ignore_errors:
        raise kept[0]
    return not kept


def _unlink(path: Path, *, ignore_errors: bool) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not ignore_errors:
            raise
        return False
    return True


def _empty(place: Descent, kept: list[OSError]) -> None:
    """Everything below; what can't go is in `kept`, with why. Raises OSError when the way back is lost."""
    names = [""]
    waiting = [_without_files(place, kept)]
    while True:
        if waiting[-1]:
            name = waiting[-1].pop()
            try:
                _open_up(name, place.here)
                place.down(name)
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    kept.append(error)
                continue
            names.append(name)
            waiting.append(_without_files(place, kept))
            continue
        waiting.pop()
        if not waiting:
            return
        place.up()
        with _noted(kept):
            os.rmdir(names.pop(), dir_fd=place.here)


def _without_files(place: Descent, kept: list[OSError]) -> list[str]:
    """Removes what lies here and is no folder; answers the folders."""
    folders: list[str] = []
    with _noted(kept):
        folders, others = place.entries()
        for name in others:
            with _noted(kept):
                os.unlink(name, dir_fd=place.here)
    return folders


@contextlib.contextmanager
def _noted(kept: list[OSError]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        if len(kept) < 100:
            kept.append(error)


def _open_up(name: Path | str, folder: int | None) -> None:
    """Lets us, who own the folder, into it. Root needs no permission. Through a descriptor: nothing can be put in its place."""
    if os.geteuid() == 0:
        return
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(descriptor).st_mode & 0o700 != 0o700:
            with contextlib.suppress(OSError):
                os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
    finally:
        os.close(descriptor)
