"""The first program of a notebook's pod: files in the home, Jupyter's settings, and words for what is in the way."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.archives import tar_of


@dataclass
class Pod:
    """Its folders, and the service that it reaches: `answers`, one after the other, status and content."""

    home: Path
    environment: Path
    scratch: Path
    url: str
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def start(self) -> "subprocess.CompletedProcess[str]":
        """With a stand-in for the notebook server, which it becomes."""
        program = (
            "import sys; from moorage.notebook import __main__ as first; first.SERVER = 'moorage_stand_in';"
            f"sys.argv[1:] = {self._arguments()!r}; first.DELAYS = (0.01, 0.01); first.main()"
        )
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "MOORAGE_API_URL": self.url, "MOORAGE_TOKEN": "own"},
        )  # fmt: skip

    def _arguments(self) -> list[str]:
        return [
            "--home", str(self.home), "--project", "tide", "--environment", str(self.environment),
            "--jupyter", str(self.scratch / "jupyter"), "--runtime", str(self.scratch / "runtime"), "--session-check-s", "60",
        ]  # fmt: skip


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers["Authorization"]))
            status, content = made.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made = Pod(tmp_path / "home", tmp_path / "env", tmp_path / "run", f"http://127.0.0.1:{server.server_address[1]}")
    for folder in (made.home, made.environment, made.scratch):
        folder.mkdir()
    (made.environment / "pyvenv.cfg").write_text("version_info = 3.12.4\n")
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_first_start_brings_the_projects_files_and_later_ones_leave_them(pod: Pod) -> None:
    pod.answers = [(503, b""), (200, tar_of({"a": b"content"}))]
    pod.start()
    assert pod.asked == [("/api/v1/projects/tide/files", "Bearer own")] * 2
    assert (pod.home / "tide" / "a").read_bytes() == b"content"
    assert (pod.home / "tide").stat().st_mode & 0o777 == 0o700
    (pod.home / "tide" / "a").write_text("mine")
    pod.start()
    assert len(pod.asked) == 2
    assert (pod.home / "tide" / "a").read_text() == "mine"


def test_a_project_without_files_has_a_folder(pod: Pod) -> None:
    pod.answers = [(204, b"")]
    pod.start()
    assert list((pod.home / "tide").iterdir()) == []


def test_the_server_finds_jupyters_settings_and_the_kernel_of_the_project(pod: Pod) -> None:
    pod.answers = [(204, b"")]
    done = pod.start()
    assert "No module named moorage_stand_in" in done.stderr  # it became the server's own program
    kernel = json.loads((pod.scratch / "jupyter/share/kernels/python3/kernel.json").read_text())
    assert kernel["argv"][0] == f"{pod.environment}/bin/python"
    assert kernel["env"]["PYTHONPATH"] == "${HOME}/.moorage/tide/lib/python3.12/site-packages"
    assert (pod.home / ".moorage/tide/lib/python3.12/site-packages").is_dir()
    settings = json.loads((pod.scratch / "jupyter/etc/jupyter_server_config.json").read_text())
    assert settings["KernelSpecManager"]["allowed_kernelspecs"] == ["python3"]
    assert (pod.scratch / "runtime").is_dir()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(404, b'{"code": "not_found", "message": "There is no project tide."}')], "There is no project tide."),
        ([(503, b"")] * 3, "The project's files could not be fetched. The service failed"),
        ([(200, b"no archive at all")], "The project's files could not be copied into your home"),
    ],
)
def test_what_it_cant_do_without_is_its_last_word(pod: Pod, answers: list[tuple[int, bytes]], words: str) -> None:
    pod.answers = answers
    done = pod.start()
    assert done.returncode == 1
    assert words in done.stderr.strip().splitlines()[-1]
    assert list(pod.home.iterdir()) == []


def test_a_home_that_cant_be_written_is_told_and_the_server_starts_all_the_same(pod: Pod) -> None:
    (pod.home / "tide").mkdir()
    (pod.home / ".moorage").write_text("in its place")
    done = pod.start()
    assert done.stderr.startswith("Your home can't be written (Not a directory: ")
    assert "No module named moorage_stand_in" in done.stderr


def test_an_environment_that_is_not_there_is_said(pod: Pod) -> None:
    (pod.home / "tide").mkdir()
    (pod.environment / "pyvenv.cfg").unlink()
    done = pod.start()
    assert done.returncode == 1
    assert "its environment can't be read" in done.stderr.strip().splitlines()[-1]
