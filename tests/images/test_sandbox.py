"""What a build says is taken in pieces, whatever it says."""

import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

from moorage_images.bounds import Bounds
from moorage_images.sandbox import Sandbox


def said(folder: Path, code: str) -> list[str]:
    lines: list[str] = []
    with Sandbox(folder / "build", None, {}, Bounds(free_disk=0)) as sandbox:
        sandbox.run([sys.executable, "-c", code], lines.append, threading.Event())
    return lines


def test_a_line_without_end_is_one_line_and_takes_no_memory(tmp_path: Path) -> None:
    code = "import sys\nfor _ in range(64): sys.stderr.write('x' * (1 << 20))\nprint('\\nafter', file=sys.stderr)"
    subprocess.run(["true"], check=True)  # what a first process costs here is not counted
    tracemalloc.start()
    try:
        lines = said(tmp_path, code)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [line[:5] for line in lines] == ["xxxxx", "after"]
    assert len(lines[0]) == 2000
    assert most < 8 << 20


def test_lines_beyond_what_is_kept_are_left_out_and_the_build_goes_on(tmp_path: Path) -> None:
    lines = said(tmp_path, "import sys\nsys.stderr.write('ab\\n' * (1 << 20))")
    assert 100_000 < len(lines) < 1 << 20
