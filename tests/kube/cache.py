"""What is built once: folders in the cache, each named by a digest of all that it was made from."""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def digest(parts: Iterable[str | Path]) -> str:
    """Of words and of files' contents, in this order."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()[:16]


def built_once(cache: Path, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `<cache>/<name>-<key>`, filled by `make` if it is not there yet. All of it, or none: it appears by a rename.

    Of several processes one makes it, and the others wait.
    """
    folder = cache / f"{name}-{key}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
            try:
                make(making)
                making.chmod(0o755)
                making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return folder
