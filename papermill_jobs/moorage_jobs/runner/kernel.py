"""The kernel of a run: the project environment's own Python, over sockets in a private folder."""

import tempfile
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

NAME = "project"
MOST_BYTES = 16 << 20  # of one message: three times what a cell may show
MOST_WAITING = 64  # messages that wait for the runner; beyond, they wait in the kernel
_LONGEST_PATH = 80  # a socket's path has 107 bytes at most


class OneKernelSpec(KernelSpecManager):
    """Knows one kernel, by the command it was given; what is installed on the machine is not looked at."""

    def __init__(self, argv: list[str], **settings: Any) -> None:
        super().__init__(**settings)
        self._spec = KernelSpec(argv=argv, display_name="Project", language="python")

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002 - the base class names it
        return self._spec


class BoundedClient(AsyncKernelClient):
    """Takes no output larger than MOST_BYTES, for reading it would take several times that.

    ZeroMQ ends the connection over such a message, for good: `output_refused` makes it anew. What the kernel said meanwhile is lost.
    """

    def connect_iopub(self, identity: bytes | None = None) -> Any:  # noqa: ARG002 - an output channel has none
        self._outputs = self.context.socket(zmq.SUB)
        self._outputs.linger = 1000
        self._outputs.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
        self._outputs.setsockopt(zmq.RCVHWM, MOST_WAITING)
        self._outputs.setsockopt(zmq.SUBSCRIBE, b"")
        address = f"inproc://refused-{id(self)}"
        self._outputs.monitor(address, zmq.EVENT_DISCONNECTED)
        self._refused = zmq.Socket(zmq.Context.shadow(self.context.underlying), zmq.PAIR)
        self._refused.linger = 0
        self._refused.connect(address)
        self._outputs.connect(self._make_url("iopub"))
        return self._outputs

    def output_refused(self) -> bool:
        """Whether an output was refused since this was asked last."""
        refused = False
        while self._refused.poll(0):
            self._refused.recv_multipart()
            refused = True
        if refused:
            url = self._make_url("iopub")
            self._outputs.disconnect(url)
            self._outputs.connect(url)
        return refused

    def stop_channels(self) -> None:
        if self._iopub_channel is not None:
            self._outputs.disable_monitor()
            self._refused.close()
        super().stop_channels()


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
        client_factory=BoundedClient,
        transport="ipc",
        ip=f"{folder}/kernel",
        connection_file=f"{folder}/kernel.json",
    )
