"""What keeps workloads needs of where they run: processes of this machine, or pods."""

from collections.abc import Callable
from typing import Protocol

from moorage_spawners.launch.types import Observation


class Processes(Protocol):
    """Every method may be repeated, and by any thread. `LocalProcesses` and `PodProcesses` are such.

    `guard` is called at the last moment before anything is ended; it raises when that is not this process's to do any more.
    """

    guard: Callable[[], None]

    def observe(self, workload_id: str) -> list[Observation]:
        """The newest generation of each role, and any older one that is not gone. Raises StaleViewError when nobody knows."""

    def observe_all(self) -> list[Observation]:
        """Of every workload that is known of, without those of which nobody knows at this moment."""

    def stop(self, workload_id: str, *, grace_s: float = 10) -> None:
        """Asks for its end and returns at once; what is gone already is no error, a later call with a shorter grace wins."""

    def forget(self, workload_id: str) -> None:
        """Removes what is left of a workload of which nothing runs; leaves what runs as it is."""

    def log_tail(self, workload_id: str, role: str, longest: int) -> bytes:
        """The last `longest` bytes that it printed, as it wrote them; nothing when there are none any more."""
