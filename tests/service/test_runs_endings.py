"""How runs end, by their process; and what is taken from a scratch folder that its owner may have tampered with."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from moorage.wire import Phase
from moorage_jobs.outcome import Outcome
from moorage_service.context import Context
from moorage_service.errors import NotFound, TooLarge
from moorage_service.jobs import launch, outputs, salvage
from moorage_service.jobs.ending import ending_of
from moorage_spawners.launch import Observation

FAILED = {"error_name": "KeyError", "error_value": "'x'\nmore", "error_cell": 4}


def seen(**how: Any) -> Observation:
    return Observation(workload_id="run-1", generation=1, role="runner", state="exited", **how)


@pytest.mark.parametrize(
    ("how", "stop_asked", "phase", "code"),
    [
        ({"exit_code": Outcome.SUCCEEDED}, False, Phase.SUCCEEDED, "run.succeeded"),
        ({"exit_code": Outcome.SUCCEEDED}, True, Phase.SUCCEEDED, "run.succeeded"),
        ({"exit_code": Outcome.USER_ERROR}, True, Phase.FAILED, "run.error"),
        ({"exit_code": Outcome.CANCELLED}, True, Phase.CANCELLED, "run.cancelled"),
        ({"exit_code": Outcome.CANCELLED}, False, Phase.FAILED, "run.interrupted"),
        ({"signal": 9}, True, Phase.CANCELLED, "run.cancelled"),
        ({"signal": 9}, False, Phase.FAILED, "run.runner-died"),
        ({"signal": 9, "out_of_memory": True}, False, Phase.FAILED, "run.out-of-memory"),
        ({"exit_code": Outcome.KERNEL_DIED, "out_of_memory": True}, False, Phase.FAILED, "run.out-of-memory"),
        ({"exit_code": Outcome.KERNEL_DIED}, False, Phase.FAILED, "run.kernel-died"),
        ({"exit_code": Outcome.TIMEOUT}, False, Phase.FAILED, "run.timeout"),
        ({"exit_code": Outcome.INFRASTRUCTURE}, False, Phase.FAILED, "run.infrastructure"),
        ({"exit_code": Outcome.OUTPUT_LOST}, False, Phase.FAILED, "run.output-lost"),
        ({"exit_code": 1}, False, Phase.FAILED, "run.runner-died"),
        ({}, False, Phase.FAILED, "run.lost"),
    ],
)
def test_the_process_says_how_a_run_ended(how: dict[str, Any], stop_asked: bool, phase: Phase, code: str) -> None:
    ending = ending_of(seen(**how), None, stop_asked=stop_asked, asked_why="Stopped by its owner.", memory=2 << 30)
    assert (ending.phase, ending.code) == (phase, code)
    assert ending.reason.endswith(".")


def test_the_failing_cell_is_named_with_its_error() -> None:
    ending = ending_of(seen(exit_code=Outcome.USER_ERROR), FAILED, stop_asked=False, asked_why=None, memory=2 << 30)
    assert ending.reason == "Cell 5 failed: KeyError: 'x'."


@pytest.fixture
def left(context: Context) -> Path:
    """The folder of run-1's outputs, as its runner left it."""
    folder = launch.scratch(context.settings, "run-1") / launch.OUTPUTS
    folder.mkdir(parents=True)
    return folder


def test_memory_is_named_with_the_limit() -> None:
    ending = ending_of(seen(signal=9, out_of_memory=True), None, stop_asked=False, asked_why=None, memory=2 << 30)
    assert ending.reason == "It used more than its 2 GiB memory and was ended. Promote it again with more memory."


def test_what_a_runner_left_is_kept_whatever_the_clock_said(context: Context, left: Path) -> None:
    (left / "notebook.ipynb").write_text("final")
    (left / "progress.json").write_text(json.dumps({"sequence": 7, "cells": []}))
    upload = outputs.Upload(context.settings, "run-1", "run.log")
    upload.write(b"sent")
    upload.finish()
    upload = outputs.Upload(context.settings, "run-1", "notebook.ipynb")
    upload.write(b"first")
    upload.finish()
    os.utime(left / "notebook.ipynb", (1, 1))
    salvage.outputs_of(context.settings, "run-1")
    kept = outputs.folder(context.settings, "run-1")
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "notebook.ipynb": "final",
        "run.log": "sent",
    }
    last = salvage.progress_of(context.settings, "run-1")
    assert last is not None
    assert last.sequence == 7


def test_nothing_is_followed_in_a_scratch_folder(context: Context, left: Path, tmp_path: Path) -> None:
    secret = context.settings.secrets / "vault-key"
    (left / "notebook.ipynb").symlink_to(secret)
    os.link(secret, left / "run.log")
    os.mkfifo(left / "notebook.html")
    (left / "progress.json").write_text("[" * 100_000)
    salvage.outputs_of(context.settings, "run-1")
    assert outputs.names(context.settings, "run-1") == []
    assert salvage.progress_of(context.settings, "run-1") is None
    for path in left.iterdir():
        path.unlink()
    left.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "run.log").write_text("not of this run")
    left.symlink_to(elsewhere)
    salvage.outputs_of(context.settings, "run-1")
    assert outputs.names(context.settings, "run-1") == []


def test_an_output_for_which_the_disk_has_no_room_leaves_nothing(context: Context) -> None:
    upload = outputs.Upload(context.settings, "run-1", "run.log")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, upload._file.fileno())
    os.close(full)
    upload.write(b"x")
    with pytest.raises(OSError, match="No space left"):
        upload.abandon()
    assert list(outputs.folder(context.settings, "run-1").iterdir()) == []


def test_an_output_is_bounded_and_named(context: Context) -> None:
    upload = outputs.Upload(context.settings, "run-1", "run.log")
    for _ in range(60):
        upload.write(bytes(2**20))
    with pytest.raises(TooLarge, match="is larger than"):
        upload.write(b"x")
    upload.abandon()
    assert list(outputs.folder(context.settings, "run-1").iterdir()) == []
    with pytest.raises(NotFound, match="has no output"):
        outputs.Upload(context.settings, "run-1", "../../x")
