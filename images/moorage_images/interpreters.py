"""The Python interpreters that an admin offers to projects."""

import functools
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from moorage_images.errors import BuildError

_ASK = (
    "import json, platform, sys; "
    "print(json.dumps([platform.python_version(), platform.machine(), sys.platform, sys.prefix == sys.base_prefix]))"
)


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    path: Path
    version: str  # with its patch: "3.11.2"
    architecture: str  # "linux-x86_64"


@functools.cache
def inspect(path: Path) -> Interpreter:
    """Asks the interpreter at `path` what it is. Raises BuildError if it can't be used as a base."""
    try:
        asked = subprocess.run([path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"The Python interpreter {path} does not run: {error}. An admin can correct it.") from error
    version, machine, platform, is_base = json.loads(asked.stdout)
    if not is_base:
        raise BuildError(f"{path} belongs to a virtual environment. An admin has to name a Python interpreter itself.")
    return Interpreter(path=path, version=version, architecture=f"{platform}-{machine}")
