import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moorage_spawners.launch import crash_points
from moorage_spawners.launch.crash_points import CrashPlan, read_plan

ROOT = Path(__file__).parents[2]
REACHED = re.compile(r"""\breach\(\s*"([^"]+)"\s*\)""")


def test_each_point_is_reached_from_exactly_one_place() -> None:
    found: list[str] = []
    for folder in ("workspace_service", "spawners", "papermill_jobs", "hub_config"):
        for file in (ROOT / folder).rglob("*.py"):
            found += REACHED.findall(file.read_text())
    assert sorted(found) == sorted(crash_points.POINTS)


def test_a_point_that_does_not_exist_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no point 'nowhere'"):
        read_plan({"MOORAGE_CRASH_AT": "nowhere"})
    with pytest.raises(ValueError, match=r"'nowhere' is not in POINTS"):
        crash_points.reach("nowhere")


def test_a_count_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_points, "POINTS", frozenset({"here"}))
    assert read_plan({}) is None
    assert read_plan({"MOORAGE_CRASH_AT": "here"}) == CrashPlan("here", 1)
    assert read_plan({"MOORAGE_CRASH_AT": "here:3"}) == CrashPlan("here", 3)
    assert read_plan({"MOORAGE_CRASH_AT": "here:stop"}) == CrashPlan("here", 1, signal.SIGSTOP)
    assert read_plan({"MOORAGE_CRASH_AT": "here:2:stop"}) == CrashPlan("here", 2, signal.SIGSTOP)
    with pytest.raises(ValueError, match="at which arrival"):
        read_plan({"MOORAGE_CRASH_AT": "here:0"})


def test_the_process_dies_at_the_arrival_that_was_named() -> None:
    program = (
        "from moorage_spawners.launch import crash_points as points\n"
        "points.POINTS = frozenset({'here'})\n"
        "points._plan = points.read_plan({'MOORAGE_CRASH_AT': 'here:2'})\n"
        "points.reach('here')\nprint('once', flush=True)\npoints.reach('here')\nprint('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "once\n")
