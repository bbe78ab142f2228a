"""The kernel of a run: the project environment's own Python, over sockets in a private folder."""

import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

NAME = "project"
_LONGEST_PATH = 80  # a socket's path has 107 bytes at most


class OneKernelSpec(KernelSpecManager):
    """Knows one kernel, by the command it was given; what is installed on the machine is not looked at."""

    def __init__(self, argv: list[str], **settings: Any) -> None:
        super().__init__(**settings)
        self._spec = KernelSpec(argv=argv, display_name="Project", language="python")

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002 - the base class names it
        return self._spec


def private_folder(beside: Path) -> Path:
    """A new folder that only this user can enter, beside the given one if its path is short enough for sockets."""
    near = beside.parent if len(str(beside.parent)) < _LONGEST_PATH else None
    return Path(tempfile.mkdtemp(prefix="k", dir=near))


def kernel_manager(argv: list[str], folder: Path) -> AsyncKernelManager:
    """A manager of a kernel that is not started yet.

    Its channels are Unix sockets in a folder that only this user can enter: over TCP, anyone on the machine can
    connect, and ipykernel 7 says so in every log.
    """
    return AsyncKernelManager(
        kernel_name=NAME,
        kernel_spec_manager=OneKernelSpec(argv),
        transport="ipc",
        ip=f"{folder}/kernel",
        connection_file=f"{folder}/kernel.json",
    )
