"""Says how a wait goes: one line that renews itself in a notebook, one line per change in a terminal or a log."""

import importlib
import sys
from typing import Any, TextIO


class Narrator:
    """`tell` shows a line. `label` is the part whose change makes a new line where lines cannot be renewed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shell = None if stream is not None else _kernel_shell()
        self._handle: Any = None
        self._label: str | None = None

    @property
    def told(self) -> bool:
        """Whether anything was said yet."""
        return self._label is not None

    def tell(self, label: str, line: str) -> None:
        if self._shell is not None:
            self._display(line)
        elif label != self._label:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        self._label = label

    def _display(self, line: str) -> None:
        text = {"text/plain": line}
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(text, raw=True, display_id=True)
        else:
            self._handle.update(text, raw=True)


def _kernel_shell() -> Any:
    """IPython's shell when this is a kernel, whose outputs can be renewed; else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


def show_elapsed(seconds: float) -> str:
    """ "8 s", "2 min 5 s", "1 h 3 min"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
