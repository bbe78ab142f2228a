"""What a runner is told to do: a JSON file that the service writes and `python -m moorage_jobs.runner FILE` reads."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PROGRESS_FILE = "progress.json"  # in the output folder, at the end: the last RunProgress


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """One execution. Sizes in bytes, durations in seconds. Secrets are named here; their values come by environment."""

    notebook: str  # path below `folder`
    folder: str  # the unpacked snapshot: working directory of the kernel
    output: str  # folder for notebook.ipynb, notebook.html and run.log; made if missing
    kernel_argv: list[str]  # with {connection_file}
    parameters: dict[str, Any] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)  # names of environment variables whose values appear nowhere
    timeout_s: float | None = None  # for the whole run, kernel start included
    kernel_start_timeout_s: float = 60.0
    stop_grace_s: float = 5.0  # from the interrupt to the kernel's end
    save_every_s: float = 2.0
    progress_every_s: float = 0.25
    report_patience_s: float = 30.0  # how long final reports are retried; the files stay in `output` all the same
    cell_output_bytes: int = 5 * 2**20
    notebook_output_bytes: int = 50 * 2**20
    log_bytes: int = 50 * 2**20
    html_timeout_s: float = 60.0
    html_memory_bytes: int = 3 * 2**30

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def read_order(path: Path) -> RunOrder:
    """The order in a file; raises OSError, ValueError or TypeError if it cannot be read as one."""
    return RunOrder(**json.loads(path.read_text(encoding="utf-8")))
