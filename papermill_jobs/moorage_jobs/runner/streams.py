"""What is said beside the notebook, by the kernel's process and by libraries: into the run's log."""

import logging
import os
import threading

from moorage_jobs.runner.runlog import RunLog


class KernelPipe:
    """Where the kernel process writes what is no cell's output (crash messages, its own warnings)."""

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


class ToLog(logging.Handler):
    """Warnings of libraries go where the notebook's own output goes, so that they are masked, too."""

    def __init__(self, run_log: RunLog) -> None:
        super().__init__(logging.WARNING)
        self._log = run_log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.line(self.format(record))
