"""Puts a project's files into a home, as its user. Also run as a program of its own, with nothing but Python: a user's uid need not
be able to read our files.

Arguments: the folder, then further folders to make; a tar archive on standard input. All or nothing: the folder appears once it is
whole. A folder that is there already is left alone, for its files are the user's since. What fails is said in one line on standard
error, with status 1; of the further folders it is said with status 0, for a server starts without them.
"""

import contextlib
import glob
import io
import os
import shutil
import sys
import tarfile

FAILURES = (OSError, tarfile.TarError, EOFError)


def unpack(target: str, stream: io.FileIO | io.BytesIO) -> None:
    """Only plain files and folders below `target`; links, devices and paths that lead out of it are left out.

    An empty stream is a project without files. Raises one of FAILURES.
    """
    for left in glob.glob(f"{glob.escape(target)}.partial-*"):  # by one that was killed
        with contextlib.suppress(RecursionError):  # too deep: it is the user's own, and in nobody's way
            shutil.rmtree(left, ignore_errors=True)
    partial = f"{target}.partial-{os.getpid()}"
    os.makedirs(partial, mode=0o700)
    try:
        buffered = io.BufferedReader(stream)
        if buffered.peek(1):
            with tarfile.open(fileobj=buffered, mode="r|*") as archive:
                for member in archive:
                    place(archive, member, partial)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def place(archive: tarfile.TarFile, member: tarfile.TarInfo, root: str) -> None:
    path = os.path.join(root, member.name)
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return
    if member.isdir():
        os.makedirs(path, mode=0o700, exist_ok=True)
    elif member.isfile():
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        source = archive.extractfile(member)
        assert source is not None
        with open(path, "wb") as file:
            shutil.copyfileobj(source, file)
        os.chmod(path, 0o700 if member.mode & 0o100 else 0o600)


def make(folders: tuple[str, ...]) -> str | None:
    """Makes folders of the user's own; what hinders, or None."""
    for folder in folders:
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            return words(error)
    return None


def words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return f"{error.strerror}: {where}" if where else error.strerror
    return str(error) or type(error).__name__


def not_copied(problem: str) -> str:
    """A sentence for the owner of the home, and the remedy."""
    return f"The project's files could not be copied into your home ({problem or 'no message'}). {_remedy(problem)}"


def not_writable(problem: str) -> str:
    """The same where the server starts nevertheless."""
    return f"Your home can't be written ({problem}). {_remedy(problem)}"


def _remedy(problem: str) -> str:
    if "No space left" in problem or "quota" in problem.lower():
        return "Remove files that you no longer need, or ask an admin for more space."
    return "Look at what is in its place, or ask an admin."


def main(target: str, *others: str) -> int:
    try:
        if not os.path.isdir(target):
            unpack(target, io.FileIO(0, closefd=False))
        os.listdir(target)  # the server works there
    except FAILURES as error:
        sys.stderr.write(f"{words(error)}\n")
        return 1
    hindrance = make(others)
    if hindrance is not None:
        sys.stderr.write(f"{hindrance}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
