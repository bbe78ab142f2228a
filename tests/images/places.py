"""Programs of this machine that the tests of builds use."""

import os
import shutil
import stat
import sys
from pathlib import Path


def find_uv() -> Path:
    """The uv that runs these tests, or the one on PATH."""
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    assert found is not None, "uv is not there: run `make test`"
    return Path(found).resolve()


def open_python() -> Path:
    """An interpreter that every uid can run: the system's, if our own lies in a private home."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = Path(sys.base_exec_prefix) / "bin" / f"python{version}"
    for path in (own, Path(f"/usr/bin/python{version}"), Path("/usr/bin/python3")):
        if path.exists() and (os.geteuid() != 0 or _open_to_all(path.resolve())):
            return path
    raise AssertionError("no Python that every uid can run: install python3 from Debian")


def _open_to_all(path: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in (path, *path.parents))
