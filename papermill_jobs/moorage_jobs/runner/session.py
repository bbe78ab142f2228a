"""One run from beginning to end: read, execute, save, report; and the outcome."""

import logging
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.engines import papermill_engines
from papermill.exceptions import PapermillExecutionError

from moorage import folders
from moorage_jobs.outcome import REASONS, Outcome
from moorage_jobs.run_order import RunOrder
from moorage_jobs.runner import execution
from moorage_jobs.runner.keeping import Keeper
from moorage_jobs.runner.kernel import kernel_manager, private_folder
from moorage_jobs.runner.outputs import OutputBudget
from moorage_jobs.runner.progress import CellFailure, Progress
from moorage_jobs.runner.redaction import Redactor
from moorage_jobs.runner.reports import Reports, Service
from moorage_jobs.runner.runlog import RunLog
from moorage_jobs.runner.streams import KernelPipe, ToLog

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
        self.log = RunLog(self._output / "run.log", self._redactor, order.log_bytes, echo=1)
        self._progress = Progress(self._redactor)
        service = Service.from_environment(environment)
        self._reports = Reports(service, every_s=order.progress_every_s) if service else None
        self._deadline = time.monotonic() + order.timeout_s if order.timeout_s else None
        self._stopped = False
        self._cause: Outcome | None = None  # why the run was told to end, whichever came first
        self._kernel_folder = private_folder(self._output)
        self._notebook: Any = None
        self._begun = False
        self._keeper = Keeper(order, self._redactor, self.log, self._reports)

    # What the engine tells (execution.Watcher).

    def cell(self, notebook: Any, index: int, state: str) -> None:
        self._progress.expect(notebook)
        if state == "failed":
            self._progress.failure = CellFailure.of_cell(notebook, index)
        if self._progress.change(index, cast(Literal["running", "completed", "failed"], state)):
            self._report_progress()
            self._keeper.changed()
        self._begun = True
        self._keeper.save_if_due(notebook)

    def output(self, kind: str, content: dict[str, Any]) -> None:
        self._keeper.changed()
        if kind == "stream":
            self.log.write(str(content.get("text", "")), str(content.get("name", "stdout")))
        elif kind == "error":
            self.log.write("\n".join(content.get("traceback", [])) + "\n", "stderr")

    def tick(self, notebook: Any) -> None:
        self._keeper.save_if_due(notebook)

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
            folders.remove(self._kernel_folder, ignore_errors=True)
        return self._conclude(outcome)

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
            with KernelPipe(self.log) as pipe:
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
            return self._infrastructure(
                f"The run could not go on: {error}" if self._begun else f"The notebook's kernel did not start: {error}"
            )
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

    def _conclude(self, outcome: Outcome) -> Outcome:
        if outcome is Outcome.TIMEOUT:
            sentence = f"The run took longer than its limit of {self.order.timeout_s:g} seconds, and was stopped."
            cell = self._progress.failure.cell if self._progress.failure else None
            self._progress.failure = CellFailure("Timeout", sentence, cell)
        elif outcome is Outcome.CANCELLED:
            self._progress.failure = None
        self.log.line(f"Ended: {outcome.name.lower().replace('_', ' ')}.")
        if self._notebook is not None:
            self._finish_metadata(outcome)
            self._keeper.save(self._notebook)
        self._report_progress()
        if self._notebook is not None:
            limit = self.order.html_timeout_s
            self._keeper.render(self._environment, min(4.0, limit) if self._stopped else limit)
        self._keeper.keep_report(self._progress.report())
        self._keeper.keep_log()
        sent = self._reports is not None and self._reports.finish(self.order.report_patience_s, lambda: self._stopped)
        if outcome is Outcome.SUCCEEDED and not (sent or self._keeper.on_disk):
            return Outcome.OUTPUT_LOST
        return outcome

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

    def _report_progress(self) -> None:
        report = self._progress.report()
        if self._reports:
            self._reports.progress(report)


def run_order(order: RunOrder, environment: Mapping[str, str]) -> Outcome:
    """Carries out an order in this process. Never raises for what a notebook does."""
    try:
        session = Session(order, environment)
    except OSError as error:
        sys.stderr.write(f"The run can't begin: {error}\n")
        return Outcome.INFRASTRUCTURE
    logging.basicConfig(handlers=[ToLog(session.log)], level=logging.WARNING, force=True)
    try:
        return session.run()
    except Exception:  # noqa: BLE001 - the process's edge: the trace goes to the log, masked
        session.log.line(traceback.format_exc())
        session.log.close()
        return Outcome.INFRASTRUCTURE


def _status(cell: Any) -> str:
    return str(cell.metadata.get("papermill", {}).get("status", ""))
