"""`python -m moorage_jobs.runner ORDER.json`: see `moorage_jobs.run_order`; exit codes are `moorage_jobs.outcome`."""

import contextlib
import os
import sys
import warnings
from pathlib import Path

from moorage_jobs.outcome import Outcome
from moorage_jobs.run_order import read_order


def main(arguments: list[str]) -> int:
    # papermill 2.7 still has these two: `entrypoints` instead of importlib, and paths of the old Jupyter layout.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"papermill(\.|$)")
    if len(arguments) != 1:
        sys.stderr.write("Usage: python -m moorage_jobs.runner ORDER.json\n")
        return Outcome.INFRASTRUCTURE
    try:
        order = read_order(Path(arguments[0]))
    except (OSError, ValueError, TypeError) as error:
        sys.stderr.write(f"The order {arguments[0]} cannot be read: {error}\n")
        return Outcome.INFRASTRUCTURE
    from moorage_jobs.runner.session import run_order  # after the warnings are set

    return run_order(order, dict(os.environ))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    with contextlib.suppress(OSError):  # the disk that takes our output may be full
        sys.stdout.flush()
    os._exit(code)  # whatever threads a library left behind must not hold the run up
