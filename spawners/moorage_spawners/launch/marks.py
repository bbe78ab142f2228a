"""How the processes of an installation are known, whatever wrote them down: by what they carry in their environment."""

import hashlib
from pathlib import Path


def mark_of(state: Path) -> str:
    """What hub, proxy and service of this state folder carry (as `tree.COOKIE`), and hand down to their children. Workloads do not."""
    return f"installation/{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:16]}"
