"""Fault 19, from within: notebooks that print without end, show huge things, never end, or take all memory.

Each run ends by itself or when asked, in words; what it had done is kept; its runner's memory is bounded; the others go on.
"""

import json
import threading
from collections.abc import Iterable
from pathlib import Path

from moorage_spawners.launch import LocalProcesses
from tests.faults.checking import check
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.faults.test_19_runs import Runs

RUNNER_MOST = 400 << 20  # bytes of memory: some messages of 16 MiB, and what reading one takes
MIB = 1 << 20


class Peaks:
    """The most memory that the runner of each run was seen with, looked at all the time."""

    def __init__(self, runs: Runs, run_ids: Iterable[str]) -> None:
        self.most = dict.fromkeys(run_ids, 0)
        self._runs = runs
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for run_id in self.most:
                for seen in self._runs.installation.processes.observe(run_id):
                    if seen.pid is not None:
                        self.most[run_id] = max(self.most[run_id], _memory(seen.pid))


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def test_hostile_notebooks_end_in_words_and_nothing_else_suffers(
    installation: Installation, scale: Scale, report: Report
) -> None:
    runs = Runs(installation)
    installation.start()
    total, at_once = (2 << 30, 100 * MIB) if scale.full else (60 * MIB, 30 * MIB)
    prints = f"for _ in range({total // MIB}): print('x' * {MIB - 1})"
    shows = f"from IPython.display import HTML, display\ndisplay(HTML('x' * {at_once}))"
    endless = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    started = {
        # A kernel that prints faster than anybody reads holds what it printed, a few times over: that is its own memory.
        "prints": runs.start("print('first')", prints, "print('last')", memory=6 << 30 if scale.full else 1 << 30),
        "shows": runs.start("print('first')", shows, "print('last')"),
        "never ends": runs.start("print('first')", endless),
        "takes memory": runs.start("print('first')", f"held = [bytearray({64 * MIB}) for _ in range(40)]"),
    }
    small = runs.start("print('small')")
    with Peaks(runs, (started["prints"], started["shows"])) as peaks:
        assert runs.end(small)["phase"] == "succeeded", "another's run goes on beside them"
        for name in ("prints", "shows"):
            runs.end(started[name])
    assert all(0 < most < RUNNER_MOST for most in peaks.most.values()), peaks.most

    for name in ("prints", "shows"):
        ended = runs.end(started[name])
        assert ended["phase"] == "succeeded", (name, ended["reason"])
        kept = json.loads(runs.notebook(started[name]))
        assert len(json.dumps(kept)) < 8 * MIB
        text = json.dumps(kept["cells"])
        assert "first" in text
        assert "last" in text
        # What is printed at once comes as one message: it is cut, or where it is larger than any that is read, left out.
        assert "Not shown" in text or (name == "prints" and "Output cut short" in text)

    stuck = started["never ends"]
    runs.until(
        stuck, lambda run: len(run["cells"]) > 1 and run["cells"][1]["state"] == "running", "in its endless cell"
    )
    with installation.api() as http:
        assert http.delete(f"/runs/{stuck}").status_code == 202
    ended = runs.end(stuck)
    assert (ended["phase"], ended["reason_code"]) == ("cancelled", "run.cancelled")
    assert "first" in runs.notebook(stuck)

    hungry = runs.end(started["takes memory"])
    if LocalProcesses(installation.state / "workloads").limits_enforced() is None:
        assert (hungry["phase"], hungry["reason_code"]) == ("failed", "run.out-of-memory"), hungry
        assert "1 GiB memory" in hungry["reason"]
        assert "first" in runs.notebook(started["takes memory"])
    else:
        assert hungry["phase"] in ("succeeded", "failed")
    check(installation)
    report(
        19,
        hostile_notebooks=len(started),
        runners_most_mib=max(peaks.most.values()) >> 20,
        printed_mib=total >> 20,
        others_that_suffered=0,
    )
