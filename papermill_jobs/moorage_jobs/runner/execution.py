"""The engine: papermill's own, with saves that cost little, a stop that keeps what was done, and a bound on output."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager

from moorage_jobs.runner.outputs import OutputBudget

NAME = "moorage"
_POLL_S = 0.1


class Watcher(Protocol):
    """What the engine tells while it works. Called on the main thread, between messages: be quick."""

    def cell(self, notebook: Any, index: int, state: str) -> None:
        """A cell changed to running, completed or failed."""

    def output(self, kind: str, content: dict[str, Any]) -> None:
        """The notebook showed something; `kind` is Jupyter's message type."""

    def tick(self, notebook: Any) -> None:
        """Called about ten times a second while a cell runs, for throttled saves."""

    def stop_asked(self) -> bool:
        """Whether the run is to end now (a stop, or its deadline)."""


class Execution(NotebookExecutionManager):  # type: ignore[misc]  # papermill is untyped
    """papermill's record of a run, which leaves saving to the watcher and never calls done what was not run."""

    def save(self, **kwargs: Any) -> None:
        """Nothing: papermill would write the whole notebook twice for each cell."""

    def autosave_cell(self, **kwargs: Any) -> None:
        """Nothing, for the same reason."""

    def notebook_complete(self, **kwargs: Any) -> None:
        """Ends the record. Cells that did not run stay `pending`; papermill would call them completed."""
        statuses = [cell.metadata.papermill["status"] for cell in self.nb.cells]
        super().notebook_complete(**kwargs)
        for cell, status in zip(self.nb.cells, statuses, strict=True):
            cell.metadata.papermill["status"] = status


class Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill is untyped
    """Executes the cells, watching for a stop, and bounds what each of them may show."""

    def __init__(
        self, record: Execution, *, manager: AsyncKernelManager, watcher: Watcher, budget: OutputBudget, grace_s: float
    ) -> None:
        super().__init__(
            record, km=manager, iopub_timeout=60, store_widget_state=False, on_cell_executed=self._cell_executed
        )
        self.owns_km = True  # so that the kernel is shut down with the execution
        self._watcher = watcher
        self._budget = budget
        self._grace = grace_s
        self.exited = False  # the notebook ended itself early, by exit(), sys.exit() or sys.exit(0)

    def execute(self, **kernel_settings: Any) -> Any:
        """Executes the cells in order until one fails, the notebook exits, or a stop is asked for."""
        self.reset_execution_trackers()
        with self.setup_kernel(**kernel_settings):
            self._execute_cells()
        return self.nb

    async def _async_execute_cells(self) -> None:
        guard = asyncio.ensure_future(self._guard())
        try:
            for index in range(len(self.nb.cells)):
                if self._watcher.stop_asked() or not await self._one_cell(index):
                    break
        finally:
            guard.cancel()

    _execute_cells = run_sync(_async_execute_cells)

    async def _one_cell(self, index: int) -> bool:
        """Executes a cell; whether the next may follow. Raises DeadKernelError."""
        cell = self.nb.cells[index]
        self._budget.new_cell()
        self.nb_man.cell_start(cell, index)
        self._watcher.cell(self.nb, index, "running")
        state = "failed"
        try:
            await self.async_execute_cell(cell, index)
            state = "completed"
        except CellExecutionError as error:
            asked = error.ename == "SystemExit" and error.evalue in {"", "0", "None"}
            self.exited = self.exited or asked
            state = "completed" if self.exited else "failed"
            if not self.exited:
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
        except DeadKernelError:
            self.nb_man.cell_exception(cell, cell_index=index)
            raise
        finally:
            self.nb_man.cell_complete(cell, cell_index=index)
            self._watcher.cell(self.nb, index, state)
        return state == "completed" and not self.exited

    def _cell_executed(self, execute_reply: dict[str, Any], **_: Any) -> None:
        """nbclient's hook: `exit()` and `quit()` in IPython raise nothing, and leave word in the reply only."""
        payload = execute_reply.get("content", {}).get("payload", [])
        self.exited = self.exited or any(item.get("source") == "ask_exit" for item in payload)

    async def _guard(self) -> None:
        """Lets the watcher save; on a stop interrupts the kernel, and ends it if it does not heed that in time."""
        while not self._watcher.stop_asked():
            await asyncio.sleep(_POLL_S)
            self._watcher.tick(self.nb)
        assert self.km is not None
        await self.km.interrupt_kernel()
        await asyncio.sleep(self._grace)
        await self.km.signal_kernel(9)  # the cell's wait ends with DeadKernelError

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        """nbclient's hook for one output, here bounded."""
        kind = msg["msg_type"]
        self._watcher.output(kind, msg["content"])
        if self.clear_before_next_output or not outs:
            self._budget.cleared()
        content = self._budget.admit(msg["content"], kind)
        if content is None:
            return None
        return super().output(outs, {**msg, "content": content}, display_id, cell_index)

    def _update_display_id(self, display_id: str, msg: dict[str, Any]) -> None:
        if self._budget.fits(msg["content"], "display_data"):
            super()._update_display_id(display_id, msg)

    def log_output_message(self, output: Any) -> None:
        """Nothing: the watcher has been told what was printed."""


class Engine(NBClientEngine):  # type: ignore[misc]  # papermill is untyped
    """Registered with papermill under NAME. Its keyword `make_client` builds the client for a record of execution."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **settings: Any) -> Any:  # noqa: ARG003 - its signature
        make_client: Callable[[Execution], Client] = settings["make_client"]
        record = Execution(nb, output_path=None, progress_bar=False)
        record.notebook_start()
        try:
            make_client(record).execute(**settings["kernel_settings"])
        finally:
            record.notebook_complete()
        return record.nb
