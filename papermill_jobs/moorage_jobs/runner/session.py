"""One run from beginning to end: read, execute, save, report; and the outcome."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.engines import papermill_engines
from papermill.exceptions import PapermillExecutionError

from moorage_jobs.outcome import REASONS, Outcome
from moorage_jobs.run_order import PROGRESS_FILE, RunOrder
from moorage_jobs.runner import execution
from moorage_jobs.runner.kernel import kernel_manager, private_folder
from moorage_jobs.runner.outputs import OutputBudget, as_bytes, kept_form, write_atomically
from moorage_jobs.runner.progress import CellFailure, Progress
from moorage_jobs.runner.redaction import Redactor
from moorage_jobs.runner.reports import Reports, Service
from moorage_jobs.runner.runlog import RunLog

log = logging.getLogger(__name__)
papermill_engines.register(execution.NAME, execution.Engine)

_HIDDEN = ("MOORAGE_TOKEN",)  # beside the secrets that the order names


class Session:
    """Carries out one order. `run` is called once, on the main thread."""

    def __init__(self, order: RunOrder, environment: Mapping[str, str]) -> None:
        self.order = order
        self._environment = environment
        self._output = Path(order.output)
        self._output.mkdir(parents=True, exist_ok=True, mode=0o700)
        hidden = {name: environment[name] for name in (*order.secrets, *_HIDDEN) if environment.get(name)}
        self._redactor = Redactor(hidden)
        self.log = RunLog(self._output / "run.log", self._redactor, order.log_bytes, sys.stdout.buffer)
        self._progress = Progress(self._redactor)
        service = Service.from_environment(environment)
        self._reports = Reports(service, every_s=order.progress_every_s) if service else None
        self._deadline = time.monotonic() + order.timeout_s if order.timeout_s else None
        self._stopped = False
        self._cause: Outcome | None = None  # why the run was told to end, whichever came first
        self._kernel_folder = private_folder(self._output)
        self._notebook: Any = None
        self._dirty = False
        self._save_after = 0.0

    # What the engine tells (execution.Watcher).

    def cell(self, notebook: Any, index: int, state: str) -> None:
        self._progress.expect(notebook)
        if state == "failed":
            self._progress.failure = CellFailure.of_cell(notebook, index)
        if self._progress.change(index, cast(Literal["running", "completed", "failed"], state)):
            self._report_progress()
            self._dirty = True
        self._save_if_due(notebook)

    def output(self, kind: str, content: dict[str, Any]) -> None:
        self._dirty = True
        if kind == "stream":
            self.log.write(str(content.get("text", "")), str(content.get("name", "stdout")))
        elif kind == "error":
            self.log.write("\n".join(content.get("traceback", [])) + "\n", "stderr")

    def tick(self, notebook: Any) -> None:
        self._save_if_due(notebook)

    def stop_asked(self) -> bool:
        if self._stopped:
            self._cause = self._cause or Outcome.CANCELLED
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self._cause = self._cause or Outcome.TIMEOUT
        return self._cause is not None

    # The run.

    def run(self) -> Outcome:
        """Executes the notebook, keeps and reports what came of it, and says how it ended."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        try:
            outcome = self._execute()
        finally:
            shutil.rmtree(self._kernel_folder, ignore_errors=True)
        self._conclude(outcome)
        return outcome

    def _on_stop(self, *_: object) -> None:
        self._stopped = True

    def _execute(self) -> Outcome:
        try:
            self._notebook = nbformat.read(  # type: ignore[no-untyped-call]
                Path(self.order.folder, self.order.notebook), as_version=4
            )
        except (OSError, ValueError) as error:
            return self._infrastructure(f"The notebook cannot be read: {error}")
        self.log.line(f"{self.order.notebook} starts.")
        try:
            with _KernelPipe(self.log) as pipe:
                self._execute_with_papermill(pipe)
        except PapermillExecutionError as error:
            if self._progress.failure is None:
                self._progress.failure = CellFailure(error.ename, error.evalue, None, None)
            return self._cause or Outcome.USER_ERROR
        except DeadKernelError:
            return self._cause or self._kernel_died()
        except (RuntimeError, OSError) as error:  # what jupyter_client raises when a kernel does not start
            if self.stop_asked():
                assert self._cause is not None
                return self._cause
            return self._infrastructure(f"The notebook's kernel did not start: {error}")
        return self._cause or Outcome.SUCCEEDED

    def _execute_with_papermill(self, pipe: int) -> None:
        path = Path(self.order.folder, self.order.notebook)
        papermill.execute_notebook(
            self._notebook,
            None,
            parameters=self.order.parameters,
            engine_name=execution.NAME,
            request_save_on_cell_execute=False,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            make_client=self._make_client,
            kernel_settings={
                "cwd": str(path.parent),
                "env": {**self._environment, "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
                "stdout": pipe,
                "stderr": pipe,
            },
        )

    def _make_client(self, record: execution.Execution) -> execution.Client:
        self._notebook = record.nb  # papermill made a copy that has the injected cell
        client = execution.Client(
            record,
            manager=kernel_manager(self.order.kernel_argv, self._kernel_folder),
            watcher=self,
            budget=OutputBudget(self.order.cell_output_bytes, self.order.notebook_output_bytes),
            grace_s=self.order.stop_grace_s,
        )
        client.startup_timeout = round(self.order.kernel_start_timeout_s)
        return client

    def _kernel_died(self) -> Outcome:
        _, sentence = REASONS[Outcome.KERNEL_DIED]
        failed = [i for i, cell in enumerate(self._notebook.cells) if _status(cell) == "failed"]
        self._progress.failure = CellFailure("KernelDied", sentence, failed[0] if failed else None)
        return Outcome.KERNEL_DIED

    def _infrastructure(self, sentence: str) -> Outcome:
        self.log.line(sentence)
        self._progress.failure = CellFailure("Infrastructure", sentence)
        return Outcome.INFRASTRUCTURE

    # What is kept.

    def _conclude(self, outcome: Outcome) -> None:
        if outcome is Outcome.TIMEOUT:
            sentence = f"The run took longer than its limit of {self.order.timeout_s:g} seconds, and was stopped."
            cell = self._progress.failure.cell if self._progress.failure else None
            self._progress.failure = CellFailure("Timeout", sentence, cell)
        elif outcome is Outcome.CANCELLED:
            self._progress.failure = None
        self.log.line(f"Ended: {outcome.name.lower().replace('_', ' ')}.")
        if self._notebook is not None:
            self._finish_metadata(outcome)
            self._save(self._notebook)
            self._report_progress()
            if self._render() and self._reports:
                self._reports.output("notebook.html", (self._output / "notebook.html").read_bytes())
        else:
            self._report_progress()
        # Should no report arrive, whoever removes this folder finds here what the last one said.
        write_atomically(self._output / PROGRESS_FILE, json.dumps(asdict(self._progress.report())).encode())
        self.log.close()
        if self._reports is None:
            return
        self._reports.output("run.log", (self._output / "run.log").read_bytes())
        self._reports.finish(self.order.report_patience_s, lambda: self._stopped)

    def _finish_metadata(self, outcome: Outcome) -> None:
        """Makes the notebook's own record agree with the outcome; papermill's is wrong when the kernel died."""
        record = self._notebook.metadata.setdefault("papermill", {})
        record["exception"] = None if outcome is Outcome.SUCCEEDED else True
        record["outcome"] = outcome.name.lower()
        for name in ("input_path", "output_path", "environment_variables"):
            record.pop(name, None)
        for cell in self._notebook.cells:
            if _status(cell) == "running":
                cell.metadata["papermill"].update(status="failed", exception=True)

    def _save_if_due(self, notebook: Any) -> None:
        if self._dirty and time.monotonic() >= self._save_after:
            self._save(notebook)

    def _save(self, notebook: Any) -> None:
        began = time.monotonic()
        content = as_bytes(kept_form(notebook, self._redactor))
        write_atomically(self._output / "notebook.ipynb", content)
        if self._reports:
            self._reports.output("notebook.ipynb", content)
        self._dirty = False
        # A large notebook takes long to write: saving may take a twentieth of the time at most.
        self._save_after = time.monotonic() + max(self.order.save_every_s, 20 * (time.monotonic() - began))

    def _report_progress(self) -> None:
        report = self._progress.report()
        if self._reports:
            self._reports.progress(report)

    def _render(self) -> bool:
        """Makes notebook.html; a notebook that cannot be shown as HTML does not fail its run."""
        seconds = min(4.0, self.order.html_timeout_s) if self._stopped else self.order.html_timeout_s
        names = [
            str(self._output / "notebook.ipynb"),
            str(self._output / "notebook.html"),
            Path(self.order.notebook).stem,
        ]
        bounds = [str(self.order.html_memory_bytes), str(max(1, round(seconds)))]
        kept = {name: self._environment[name] for name in ("PATH", "HOME", "LANG") if name in self._environment}
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-m", "moorage_jobs.runner.render", *names, *bounds],
                env=kept,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except subprocess.TimeoutExpired:
            self.log.line(f"The notebook was not rendered as HTML: it took longer than {seconds:g} s.")
            return False
        if done.returncode != 0:
            why = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"])[-1]
            self.log.line(f"The notebook was not rendered as HTML: {why[:500]}")
        return done.returncode == 0


class _KernelPipe:
    """Where the kernel process writes what is no cell's output (crash messages, its own warnings): into the log."""

    def __init__(self, run_log: RunLog) -> None:
        self._log = run_log

    def __enter__(self) -> int:
        read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._copy, args=(read,), name="kernel-output", daemon=True)
        self._thread.start()
        return self._write

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        self._thread.join(2)  # a child of the notebook may still hold the other end

    def _copy(self, read: int) -> None:
        with open(read, "rb", buffering=0) as source:
            while chunk := source.read(65536):
                self._log.write(chunk.decode("utf-8", "replace"), "kernel")


class _ToLog(logging.Handler):
    """Warnings of libraries go where the notebook's own output goes, so that they are masked, too."""

    def __init__(self, run_log: RunLog) -> None:
        super().__init__(logging.WARNING)
        self._log = run_log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.line(self.format(record))


def run_order(order: RunOrder, environment: Mapping[str, str]) -> Outcome:
    """Carries out an order in this process. Never raises for what a notebook does."""
    session = Session(order, environment)
    logging.basicConfig(handlers=[_ToLog(session.log)], level=logging.WARNING, force=True)
    try:
        return session.run()
    except Exception:  # noqa: BLE001 - the process's edge: the trace goes to the log, masked
        session.log.line(traceback.format_exc())
        session.log.close()
        return Outcome.INFRASTRUCTURE


def _status(cell: Any) -> str:
    return str(cell.metadata.get("papermill", {}).get("status", ""))
