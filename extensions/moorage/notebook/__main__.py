"""The first program of a notebook's pod, run as its user: `python -I -m moorage.notebook`, with the options below.

It puts the project's files into the home, once; writes Jupyter's settings and the project's kernel; and becomes the notebook server.
What it can't do without is one sentence on standard error, the last line, with status 1: Kubernetes keeps it for whoever waits.
"""

import argparse
import io
import os
import sys
from pathlib import Path

from moorage.environment import surroundings
from moorage.notebook import settings, unpack

SERVER = "jupyterhub.singleuser"
DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)  # seconds: the network of a new pod, and a service that is just upgraded


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -I -m moorage.notebook", description="Starts a notebook server.")
    parser.add_argument("--home", required=True, help="the user's home")
    parser.add_argument("--project", required=True, help="the project's slug, which names its folder in the home")
    parser.add_argument("--environment", required=True, help="folder of the project's environment")
    parser.add_argument("--jupyter", required=True, type=Path, help="a folder to be made for Jupyter's settings")
    parser.add_argument("--runtime", required=True, type=Path, help="a folder to be made for what the server keeps")
    parser.add_argument("--session-check-s", required=True, type=float, help="how often sessions are looked at")
    return parser


def prepare(asked: argparse.Namespace) -> str | None:
    """All but the server itself; what hinders writing in the home, in words. Raises SystemExit with a sentence."""
    folder = os.path.join(asked.home, asked.project)
    before = os.umask(0o077)
    try:
        if not os.path.isdir(folder):
            unpack.unpack(folder, io.BytesIO(_project_files(asked.project)))
        os.chdir(folder)  # the server works there
        os.listdir()
    except unpack.FAILURES as error:
        raise SystemExit(unpack.not_copied(unpack.words(error))) from error
    try:
        asked.runtime.mkdir(parents=True, exist_ok=True)
        notebook = settings.Notebook(
            project=asked.project, home=asked.home, environment=asked.environment,
            python=settings.python_of(Path(asked.environment)), session_check_s=asked.session_check_s, in_pod=True,
        )  # fmt: skip
        for path, text in settings.files(notebook, asked.jupyter).items():
            file = asked.jupyter / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(
            f"The notebook server's own files can't be written, or its environment can't be read ({error}). Ask an admin."
        ) from error
    finally:
        os.umask(before)
    hindrance = unpack.make((notebook.overlay_packages,))
    return None if hindrance is None else unpack.not_writable(hindrance)


def _project_files(project: str) -> bytes:
    """A tar, from the service; nothing for a project without files. Raises SystemExit with a sentence."""
    from moorage import calls, errors  # most starts find the files in the home, and need no client
    from moorage.client import Client

    around = surroundings()
    try:
        with Client(around.api_url or "", around.token or "", delays=DELAYS) as client:
            return client.send(calls.project_files(project))
    except errors.MoorageError as error:
        raise SystemExit(f"The project's files could not be fetched. {error}") from error


def main() -> None:
    hindrance = prepare(options().parse_args())
    if hindrance is not None:
        sys.stderr.write(f"{hindrance}\n")
    sys.stderr.flush()
    # -I: no user site, no PYTHON* variables, no working folder on the path.
    argv = [sys.executable, "-I", "-m", SERVER]
    os.execve(sys.executable, argv, {**os.environ, "SHELL": settings.shell()})  # noqa: S606


if __name__ == "__main__":
    main()
