"""The engine: papermill's own, with saves that cost little, a stop that keeps what was done, and a bound on output."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager

from moorage_jobs.runner.kernel import MOST_BYTES
from moorage_jobs.runner.outputs import EVALUE, OutputBudget

NAME = "moorage"
_POLL_S = 0.1
_AFTER_REFUSAL_S = 2.0  # after a cell is done, for what it showed to arrive


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
        self._refused = False  # an output of this cell was too large to be read at all
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
                _show_error(cell, error)
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
        except DeadKernelError:
            self.nb_man.cell_exception(cell, cell_index=index)
            raise
        finally:
            self._tell_refused(cell)
            self.nb_man.cell_complete(cell, cell_index=index)
            self._watcher.cell(self.nb, index, state)
        return state == "completed" and not self.exited

    def _look_for_refused(self) -> None:
        self._refused = (self.kc is not None and self.kc.output_refused()) or self._refused

    def _tell_refused(self, cell: Any) -> None:
        self._look_for_refused()
        if self._refused and not self.exited:
            notice = f"[Not shown: an output larger than {MOST_BYTES} bytes, and what came right after it.]\n"
            cell.outputs.append(_output(output_type="stream", name="stderr", text=notice))
            self._watcher.output("stream", {"name": "stderr", "text": notice})
        self._refused = False

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        """nbclient's, which waits for the word that the cell is done: that may be lost with an output that was refused."""
        reading = asyncio.ensure_future(self._read_outputs(parent_msg_id, cell, cell_index))
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=_AFTER_REFUSAL_S)
                if self._refused and "shell.execute_reply" in cell.metadata.get("execution", {}):
                    return
            reading.result()
        finally:
            reading.cancel()

    async def _read_outputs(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        """A message that can't be read ends nothing: it is left out, and the cell says so."""
        while True:
            try:
                await super()._async_poll_output_msg(parent_msg_id, cell, cell_index)
            except (ValueError, RecursionError):
                self._refused = True
            else:
                return

    def handle_comm_msg(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        """Nothing: widgets' states are not kept, and would be collected without bound."""

    def _cell_executed(self, execute_reply: dict[str, Any], **_: Any) -> None:
        """nbclient's hook: `exit()` and `quit()` in IPython raise nothing, and leave word in the reply only."""
        payload = execute_reply.get("content", {}).get("payload", [])
        self.exited = self.exited or any(item.get("source") == "ask_exit" for item in payload)

    async def _guard(self) -> None:
        """Lets the watcher save; on a stop interrupts the kernel, and ends it if it does not heed that in time."""
        while not self._watcher.stop_asked():
            await asyncio.sleep(_POLL_S)
            self._look_for_refused()
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
        places = sum(len(outputs) for outputs in self._display_id_map.get(display_id, {}).values())
        if places and self._budget.replace(display_id, msg["content"], places):
            super()._update_display_id(display_id, msg)

    def log_output_message(self, output: Any) -> None:
        """Nothing: the watcher has been told what was printed."""


def _show_error(cell: Any, error: CellExecutionError) -> None:
    """Where the kernel's word of the error was lost, as after an output that was too large, the reply still names it."""
    if not any(output["output_type"] == "error" for output in cell.outputs):
        evalue = str(error.evalue)[:EVALUE]
        cell.outputs.append(_output(output_type="error", ename=str(error.ename), evalue=evalue, traceback=[]))


def _output(**of: Any) -> NotebookNode:
    return NotebookNode(of)  # type: ignore[no-untyped-call]


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
