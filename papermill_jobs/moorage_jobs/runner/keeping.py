"""What a run keeps: its notebook, as it grows; its page; its last report. On the disk beside it, and at the service.

A disk that takes nothing any more does not end a run: what it should hold is sent, and only if that fails, too, is it lost. A file
that could not be replaced is removed, so that whoever looks later takes no older state for the last one.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moorage.wire.jobs import RunProgress
from moorage_jobs.run_order import PROGRESS_FILE, RunOrder
from moorage_jobs.runner.outputs import as_bytes, kept_form, write_atomically
from moorage_jobs.runner.redaction import Redactor
from moorage_jobs.runner.reports import Reports
from moorage_jobs.runner.runlog import RunLog


class Keeper:
    """Of one run. Nothing here raises for a disk that is full or read-only."""

    def __init__(self, order: RunOrder, redactor: Redactor, log: RunLog, reports: Reports | None) -> None:
        self._order = order
        self._folder = Path(order.output)
        self._redactor = redactor
        self._log = log
        self._reports = reports
        self._dirty = False
        self._save_after = 0.0
        self._told = False
        self.on_disk = True  # whether the notebook lies there as it is

    def changed(self) -> None:
        self._dirty = True

    def save_if_due(self, notebook: Any) -> None:
        if self._dirty and time.monotonic() >= self._save_after:
            self.save(notebook)

    def save(self, notebook: Any) -> None:
        began = time.monotonic()
        content = as_bytes(kept_form(notebook, self._redactor))
        self.on_disk = self._write("notebook.ipynb", content)
        if self._reports:
            self._reports.output("notebook.ipynb", content)
        self._dirty = False
        # A large notebook takes long to write: saving may take a twentieth of the time at most.
        self._save_after = time.monotonic() + max(self._order.save_every_s, 20 * (time.monotonic() - began))

    def keep_report(self, report: RunProgress) -> None:
        """Should no report arrive, whoever removes the folder finds here what the last one said."""
        self._write(PROGRESS_FILE, json.dumps(asdict(report)).encode())

    def keep_log(self) -> None:
        """Ends the log, and sends it."""
        self._log.close()
        if self._reports:
            self._send("run.log")

    def render(self, environment: Mapping[str, str], seconds: float) -> None:
        """Makes notebook.html, and sends it; a notebook that cannot be shown as HTML does not fail its run."""
        names = [str(self._folder / "notebook.ipynb"), str(self._folder / "notebook.html")]
        bounds = [str(self._order.html_memory_bytes), str(max(1, round(seconds)))]
        kept = {name: environment[name] for name in ("PATH", "HOME", "LANG") if name in environment}
        program = [sys.executable, "-I", "-m", "moorage_jobs.runner.render"]
        try:
            done = subprocess.run(
                [*program, *names, Path(self._order.notebook).stem, *bounds],
                env=kept,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except subprocess.TimeoutExpired:
            self._log.line(f"The notebook was not rendered as HTML: it took longer than {seconds:g} s.")
            return
        if done.returncode != 0:
            why = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"])[-1]
            self._log.line(f"The notebook was not rendered as HTML: {why[:500]}")
        elif self._reports:
            self._send("notebook.html")

    def _send(self, name: str) -> None:
        assert self._reports is not None
        try:
            self._reports.output(name, (self._folder / name).read_bytes())
        except OSError as error:
            self._log.line(f"{name} can't be read to be sent: {error.strerror}.")

    def _write(self, name: str, content: bytes) -> bool:
        path = self._folder / name
        try:
            write_atomically(path, content)
        except OSError as error:
            if not self._told:
                self._log.line(f"{name} can't be written to the disk: {error.strerror}. It is sent all the same.")
            self._told = True
            try:
                path.unlink(missing_ok=True)
            except OSError:  # a disk that lets nothing be removed
                return False
            return False
        return True
