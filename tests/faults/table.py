"""The figures of `make faults` as a Markdown table: python tests/faults/table.py FILE, where FILE is what MOORAGE_FAULTS_REPORT named.

Of a test that ran more than once the last figures count.
"""

import json
import sys
from pathlib import Path
from typing import Any


def rows(lines: list[str]) -> list[str]:
    newest: dict[tuple[int, str], dict[str, Any]] = {}
    for line in lines:
        entry = json.loads(line)
        newest[entry["fault"], entry["test"]] = entry
    made = ["| fault | test | form | figures | cost |", "|---|---|---|---|---|"]
    for (fault, test), entry in sorted(newest.items()):
        figures = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in entry["figures"].items())
        form = "full" if entry["full"] else "short"
        made.append(f"| {fault} | `{test.removeprefix('tests/faults/')}` | {form} | {figures} | {entry['seconds']} s |")
    return made


if __name__ == "__main__":
    file = Path(sys.argv[1])
    sys.stdout.write("\n".join(rows(file.read_text().splitlines() if file.exists() else [])) + "\n")
