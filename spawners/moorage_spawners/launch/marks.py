"""How the processes of an installation are known: by a list that `up` keeps, and, whatever was written down, by what they carry."""

import hashlib
import json
from pathlib import Path

from moorage_spawners.shim import tree


def mark_of(state: Path) -> str:
    """What hub, proxy and service of this state folder carry (as `tree.COOKIE`), and hand down to their children. Workloads do not."""
    return f"installation/{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:16]}"


def census(state: Path) -> Path:
    """The file in which `up` lists its processes: name -> [pid, start, boot]."""
    return state / "database" / "processes.json"


def living(state: Path) -> dict[str, int]:
    """Name -> pid of those in the list that still live; a reused pid is told by its start time and by the machine's own."""
    try:
        return tree.living(json.loads(census(state).read_text()))
    except (FileNotFoundError, ValueError):
        return {}  # a file that a full disk cut short: the mark finds the same processes
