"""Run as the user, as a program of its own: unpacks a tar archive from standard input into a folder of their home.

Arguments: the folder, then further folders to make. All or nothing: the folder appears once it is whole. A folder that is there
already is left alone, for its files are the user's since. What fails is said in one line on standard error, with status 1; of the
further folders it is said with status 0, for a server starts without them.
"""

import contextlib
import glob
import io
import os
import shutil
import sys
import tarfile


def unpack(target: str) -> None:
    """Only plain files and folders below `target`; links, devices and paths that lead out of it are left out."""
    for left in glob.glob(f"{glob.escape(target)}.partial-*"):  # by one that was killed
        with contextlib.suppress(RecursionError):  # too deep: it is the user's own, and in nobody's way
            shutil.rmtree(left, ignore_errors=True)
    partial = f"{target}.partial-{os.getpid()}"
    os.makedirs(partial, mode=0o700)
    try:
        stream = io.BufferedReader(io.FileIO(0, closefd=False))
        if stream.peek(1):  # nothing at all: a project without files
            with tarfile.open(fileobj=stream, mode="r|*") as archive:
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


def words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return f"{error.strerror}: {where}" if where else error.strerror
    return str(error) or type(error).__name__


def main(target: str, *others: str) -> int:
    try:
        if not os.path.isdir(target):
            unpack(target)
        os.listdir(target)  # the server works there
    except (OSError, tarfile.TarError, EOFError) as error:
        sys.stderr.write(f"{words(error)}\n")
        return 1
    for folder in others:
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            sys.stderr.write(f"{words(error)}\n")
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
