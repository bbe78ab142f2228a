"""The runner as a process, with real kernels: how runs end, what they keep, what they report and what they hide."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import nbformat
import pytest

from moorage_jobs.outcome import Outcome
from moorage_jobs.run_order import RunOrder
from tests.fakes.runs_service import RunsService, runs_service
from tests.waiting import eventually

CANARY = "kanarienvogel/4711+\"x'"


@dataclass
class Bench:
    """Runs notebooks made of cells."""

    folder: Path
    service: RunsService
    processes: list[subprocess.Popen[bytes]]

    def start(self, *cells: str, environment: dict[str, str] | None = None, **order: Any) -> subprocess.Popen[bytes]:
        made: list[dict[str, Any]] = [
            {
                "cell_type": "code",
                "metadata": {},
                "source": source,
                "outputs": [],
                "execution_count": None,
                "id": f"c{n}",
            }
            for n, source in enumerate(cells)
        ]
        if cells[0].startswith("# parameters"):
            made[0]["metadata"]["tags"] = ["parameters"]
        source = self.folder / "source"
        source.mkdir()
        document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}
        (source / "work.ipynb").write_text(json.dumps(document))
        given = RunOrder(
            notebook="work.ipynb",
            folder=str(source),
            output=str(self.folder / "outputs"),
            kernel_argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            save_every_s=0.1,
            progress_every_s=0.05,
        )
        (self.folder / "order.json").write_text(replace(given, **order).to_json())
        with (self.folder / "stdout").open("wb") as stdout:
            process = self._popen(stdout, environment or {})
        self.processes.append(process)
        return process

    def _popen(self, stdout: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "moorage_jobs.runner", str(self.folder / "order.json")],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "MOORAGE_API_URL": self.service.url,
                "MOORAGE_WORKLOAD": "ru-1",
                "MOORAGE_TOKEN": "token-of-the-run",
                **environment,
            },
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )

    def run(self, *cells: str, **order: Any) -> Outcome:
        code = self.start(*cells, **order).wait(60)
        assert code in list(Outcome), self.log()
        return Outcome(code)

    @property
    def notebook(self) -> Any:
        document = nbformat.reads(  # type: ignore[no-untyped-call]
            (self.folder / "outputs" / "notebook.ipynb").read_text(), as_version=4
        )
        nbformat.validate(document)
        return document

    def statuses(self) -> list[str]:
        return [cell.metadata.papermill.status for cell in self.notebook.cells if cell.cell_type == "code"]

    def log(self) -> str:
        return (self.folder / "stdout").read_text()

    def everything_kept(self) -> str:
        files = [file for file in (self.folder / "outputs").rglob("*") if file.is_file()]
        kept = [file.read_text() for file in files] + [self.log(), json.dumps(self.service.progress)]
        return "\n".join(kept + [body.decode() for body in self.service.outputs.values()])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with runs_service() as service:
        made = Bench(tmp_path, service, [])
        yield made
        for process in made.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def test_a_run_executes_with_its_parameters_and_reports_each_cell_and_its_outputs(bench: Bench) -> None:
    cells = ("# parameters\nrate = 1.5", "print('rate is', rate)", "import os; os.system('echo from a child')")
    assert bench.run(*cells, parameters={"rate": 2.5}) is Outcome.SUCCEEDED
    assert bench.service.tokens == {"Bearer token-of-the-run"}
    assert bench.service.states() == ["completed"] * 4
    assert [one["sequence"] for one in bench.service.progress] == sorted(
        {p["sequence"] for p in bench.service.progress}
    )
    assert set(bench.service.outputs) == {"notebook.ipynb", "notebook.html", "run.log"}
    assert "rate is 2.5" in bench.service.outputs["notebook.html"].decode()
    assert 'src="http' not in bench.service.outputs["notebook.html"].decode()
    assert "<title>work</title>" in bench.service.outputs["notebook.html"].decode()
    assert "from a child" in bench.service.outputs["run.log"].decode()
    assert "rate is 2.5" in bench.log()
    assert bench.notebook.metadata.papermill.outcome == "succeeded"
    assert bench.notebook.metadata.papermill.exception is None


def test_a_failing_cell_ends_the_run_as_user_error_with_the_trace(bench: Bench) -> None:
    assert bench.run("a = 1", "1 / 0", "print('never')") is Outcome.USER_ERROR
    assert bench.service.states() == ["completed", "failed", "pending"]
    assert bench.service.last["error_name"] == "ZeroDivisionError"
    assert bench.service.last["error_cell"] == 1
    assert "1 / 0" in bench.service.last["traceback"]
    assert "\x1b" not in bench.service.last["traceback"]
    assert bench.statuses() == ["completed", "failed", "pending"]
    assert "ZeroDivisionError" in bench.service.outputs["notebook.html"].decode()


@pytest.mark.parametrize("leave", ["import sys; sys.exit(0)", "exit()"])
def test_a_notebook_that_exits_in_good_order_succeeded(bench: Bench, leave: str) -> None:
    assert bench.run("print('enough')", leave, "1 / 0") is Outcome.SUCCEEDED
    assert bench.statuses() == ["completed", "completed", "pending"]
    assert bench.notebook.metadata.papermill.exception is None


def test_a_notebook_that_exits_with_an_error_code_failed(bench: Bench) -> None:
    assert bench.run("import sys; sys.exit(3)") is Outcome.USER_ERROR
    assert bench.service.last["error_name"] == "SystemExit"


def test_a_kernel_that_is_killed_is_told_apart_and_later_cells_stay_pending(bench: Bench) -> None:
    cells = ("print('before')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "print('never')")
    assert bench.run(*cells) is Outcome.KERNEL_DIED
    assert bench.service.last["error_name"] == "KernelDied"
    assert bench.service.states() == ["completed", "failed", "pending"]
    assert bench.statuses() == ["completed", "failed", "pending"]
    assert bench.notebook.metadata.papermill.outcome == "kernel_died"


def test_the_deadline_of_the_run_interrupts_the_kernel_and_keeps_what_was_done(bench: Bench) -> None:
    loop = "import time\nfor n in range(10**6):\n    print('step', n, flush=True); time.sleep(0.05)"
    assert bench.run("print('first')", loop, "print('never')", timeout_s=12) is Outcome.TIMEOUT
    assert bench.statuses() == ["completed", "failed", "pending"]
    assert bench.service.last["error_name"] == "Timeout"
    assert "step 0" in bench.service.outputs["notebook.ipynb"].decode()


def test_a_kernel_that_ignores_the_interrupt_is_ended_after_the_grace(bench: Bench) -> None:
    stubborn = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        pass"
    assert bench.run(stubborn, timeout_s=10, stop_grace_s=0.5) is Outcome.TIMEOUT
    assert bench.statuses() == ["failed"]


def test_sigterm_interrupts_saves_and_ends_as_cancelled(bench: Bench) -> None:
    process = bench.start("print('done', flush=True)", "import time\nprint('waits', flush=True)\ntime.sleep(600)")
    eventually(lambda: bench.service.states() == ["completed", "running"], what="the second cell")
    eventually(
        lambda: "waits" in bench.service.outputs.get("notebook.ipynb", b"").decode(), what="a save while it runs"
    )
    process.send_signal(signal.SIGTERM)
    assert Outcome(process.wait(20)) is Outcome.CANCELLED
    assert bench.statuses() == ["completed", "failed"]
    assert "KeyboardInterrupt" in bench.service.outputs["notebook.ipynb"].decode()
    assert bench.service.last["error_name"] is None


def test_output_is_bounded_for_a_cell_and_the_notebook_but_the_next_cell_still_shows(bench: Bench) -> None:
    flood = "for _ in range(2000): print('x' * 99)"
    outcome = bench.run(flood, "print('small')", flood, cell_output_bytes=50_000, notebook_output_bytes=80_000)
    assert outcome is Outcome.SUCCEEDED
    texts = ["".join(output.text for output in cell.outputs) for cell in bench.notebook.cells]
    assert 40_000 < len(texts[0]) < 51_000
    assert "Output cut short: it reached 50000 bytes" in texts[0]
    assert texts[1] == "small\n"
    assert "the notebook reached its size limit" in texts[2]
    assert sum(map(len, texts)) < 82_000
    assert len(bench.service.outputs["run.log"]) > 390_000


def test_a_display_that_clears_itself_does_not_use_up_the_bound(bench: Bench) -> None:
    code = (
        "from IPython.display import clear_output\n"
        "for n in range(50):\n    clear_output(wait=True); print(n, 'y' * 4000)"
    )
    assert bench.run(code, cell_output_bytes=20_000) is Outcome.SUCCEEDED
    shown = "".join(output.text for output in bench.notebook.cells[0].outputs)
    assert shown.startswith("49 ")
    assert "cut short" not in shown


def test_an_output_that_can_not_be_kept_is_left_out_and_said_and_the_next_cells_go_on(bench: Bench) -> None:
    outcome = bench.run(
        "print('x' * 40_000_000)",
        "deep = []\nfor _ in range(900): deep = [deep]\n"
        "display({'application/json': deep, 'text/plain': 'p'}, raw=True)",
        "import sys\nsys.setrecursionlimit(100_000)\nfor _ in range(3000): deep = [deep]\n"
        "display({'application/json': deep, 'text/plain': 'p'}, raw=True)",
        "shown = [display('a', display_id=True) for _ in range(8)]\nfor one in shown: one.update('y' * 100_000)",
        "print('after')",
        cell_output_bytes=200_000,
        notebook_output_bytes=500_000,
    )
    assert outcome is Outcome.SUCCEEDED, bench.log()
    cells = bench.notebook.cells
    assert "Not shown: an output larger than" in cells[0].outputs[-1].text
    assert "nested more than" in cells[1].outputs[0]["data"]["text/plain"]
    assert "Not shown" in cells[2].outputs[-1].text
    assert cells[4].outputs[0].text == "after\n"
    assert (bench.folder / "outputs" / "notebook.ipynb").stat().st_size < 600_000


def test_an_error_that_is_too_large_is_named_and_cut(bench: Bench) -> None:
    assert bench.run("raise KeyError('x' * 3_000_000)", cell_output_bytes=100_000) is Outcome.USER_ERROR
    error = bench.notebook.cells[-1].outputs[-1]
    assert (error.ename, len(error.evalue)) == ("KeyError", 2000)
    assert (bench.folder / "outputs" / "notebook.ipynb").stat().st_size < 300_000
    assert bench.service.last["error_name"] == "KeyError"


@pytest.fixture
def small_disk(bench: Bench) -> Iterator[Path]:
    """The outputs' folder on a disk of its own, of 300 kB."""
    folder = bench.folder / "outputs"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_costs_nothing_that_the_service_takes(bench: Bench, small_disk: Path) -> None:
    assert bench.run("print('y' * 700_000)", "print('after')") is Outcome.SUCCEEDED
    sent = nbformat.reads(bench.service.outputs["notebook.ipynb"].decode(), as_version=4)  # type: ignore[no-untyped-call]
    assert sent.cells[-1].outputs[0].text == "after\n"
    assert not (small_disk / "notebook.ipynb").exists()  # no older state in its place
    assert "can't be written to the disk: No space left" in bench.log()


def test_a_notebook_that_is_kept_nowhere_is_no_success(bench: Bench, small_disk: Path) -> None:
    bench.service.away.set()
    assert bench.run("print('y' * 700_000)", report_patience_s=0.5) is Outcome.OUTPUT_LOST


def test_a_secret_reaches_the_notebook_and_appears_nowhere_in_what_is_kept(bench: Bench) -> None:
    cells = (
        "import os, sys, json\nkey = os.environ['API_KEY']\nprint(len(key), key)\nprint(repr(key), json.dumps({'k': key}))",
        "for letter in key: print(letter, end='', flush=True)",
        "key",
        "os.system('printenv API_KEY >&2')",
        "print(os.environ['MOORAGE_TOKEN'])",
        "raise ValueError('bad key ' + key)",
    )
    process = bench.start(*cells, secrets=["API_KEY"], environment={"API_KEY": CANARY})
    assert Outcome(process.wait(60)) is Outcome.USER_ERROR
    kept = bench.everything_kept()
    assert str(len(CANARY)) + " ***" in kept
    assert "bad key ***" in bench.service.last["error_value"]
    for form in (CANARY, repr(CANARY)[1:-1], json.dumps(CANARY)[1:-1], "kanarienvogel", "token-of-the-run"):
        assert form not in kept


def test_reports_wait_for_a_service_that_is_away(bench: Bench) -> None:
    bench.service.away.set()
    process = bench.start("print('kept')")
    eventually(lambda: bench.service.refused > 1, what="a refused report")
    eventually(lambda: (bench.folder / "outputs" / "run.log").exists(), what="the run")
    assert process.poll() is None
    bench.service.away.clear()
    assert Outcome(process.wait(60)) is Outcome.SUCCEEDED
    assert "kept" in bench.service.outputs["notebook.ipynb"].decode()
    assert bench.service.states() == ["completed"]


def test_a_kernel_that_cannot_start_is_no_fault_of_the_notebook(bench: Bench) -> None:
    argv = [sys.executable, "-c", "raise SystemExit('no ipykernel here')", "{connection_file}"]
    assert bench.run("1", kernel_argv=argv) is Outcome.INFRASTRUCTURE
    assert "kernel did not start" in bench.service.last["error_value"]
    assert "no ipykernel here" in bench.log()


def test_an_order_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "moorage_jobs.runner", str(tmp_path / "none.json")], capture_output=True, text=True
    )
    assert done.returncode == Outcome.INFRASTRUCTURE
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
